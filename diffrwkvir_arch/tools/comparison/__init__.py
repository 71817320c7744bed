"""The parts of `basicsr compare`: methods, sets of images, measuring, scoring, and what it writes."""
