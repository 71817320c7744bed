"""What the tests of `basicsr restore` read."""
import cv2


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
