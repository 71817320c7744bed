"""The parts of `basicsr restore`: which images, what a result says of itself, what is told meanwhile."""
