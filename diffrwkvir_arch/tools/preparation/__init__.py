"""What `basicsr prepare` is made of."""
