"""What the verbs are asked, one a module, told without importing torch: -h and mistakes are answered at once."""
