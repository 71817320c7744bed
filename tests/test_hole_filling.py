"""Push-pull interpolation, on which inpainting starts: what it keeps, what it does not see, what it comes near to."""
import pytest
import torch
import torch.nn.functional as F
from diffrwkvir_arch.archs.hole_filling import GREY, fill_holes


def hole(height, width, top=2, bottom=5, left=3, right=9):
    mask = torch.zeros(1, 1, height, width)
    mask[..., top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 2), (8, 8), (13, 30)])
def test_known_pixels_stay_and_a_constant_image_is_completed_exactly(size):
    mask = (torch.rand(2, 1, *size, generator=torch.manual_seed(0)) > 0.5).float()
    mask[..., 0, 0] = 0
    image = torch.rand(2, 3, *size)
    filled = fill_holes(image, mask)
    assert torch.equal(torch.where(mask > 0.5, 0, filled), torch.where(mask > 0.5, 0, image))
    assert filled.min() >= image.min() - 1e-6 and filled.max() <= image.max() + 1e-6
    torch.testing.assert_close(fill_holes(torch.full_like(image, 0.3), mask), torch.full_like(image, 0.3))


def test_what_the_image_holds_in_the_hole_is_of_no_account():
    mask, image = hole(12, 16), torch.rand(1, 3, 12, 16)
    spoilt = torch.where(mask > 0.5, torch.nan, image)
    assert torch.equal(fill_holes(spoilt, mask), fill_holes(image, mask))


def test_nothing_known_is_grey():
    assert torch.equal(fill_holes(torch.rand(1, 3, 6, 9), torch.ones(1, 1, 6, 9)), torch.full((1, 3, 6, 9), GREY))


def test_a_slope_is_continued_through_the_hole():
    image = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    error = (fill_holes(image, hole(32, 32, 12, 20, 12, 20)) - image).abs().max()
    assert error < 0.05    # the slope rises by 0.26 across the hole


def test_a_block_of_which_one_pixel_is_known_counts_as_known_in_the_half_size_image():
    half, mask = torch.rand(1, 3, 4, 5), torch.ones(1, 1, 8, 10)
    mask[..., ::2, ::2] = 0
    filled = fill_holes(half.repeat_interleave(2, -1).repeat_interleave(2, -2), mask)
    assert torch.equal(filled[..., ::2, ::2], half)
    above = F.interpolate(half, scale_factor=2, mode='bilinear')
    torch.testing.assert_close(torch.where(mask == 1, filled, above), above)
