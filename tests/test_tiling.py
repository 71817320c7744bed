"""How large images are cut into tiles."""
import itertools

import pytest
import torch

from diffrwkvir_arch import tiling
from diffrwkvir_arch.tiling import GRID, cuts, restore_tiled, tile_count


@pytest.mark.parametrize('tile, overlap', [(7, 0), (8, 3), (16, 15), (40, 16), (64, 16), (100, 33)])
def test_tiles_cover_a_side_share_their_overlap_and_are_neither_more_nor_longer_than_they_need_be(tile, overlap):
    for side in range(1, 300):
        slices = cuts(side, tile, overlap)
        assert slices[0].start == 0 and slices[-1].stop == side
        assert all(left.stop - right.start >= overlap for left, right in itertools.pairwise(slices))
        length, = {piece.stop - piece.start for piece in slices}
        assert length <= tile and (length % GRID == 0 or length in (side, tile))
        reach = (len(slices) - 1) * (tile - overlap) + overlap
        assert reach < side or len(slices) == 1
        # So many tiles that were a step of the grid shorter would not do.
        assert len(slices) * (length - GRID) - (len(slices) - 1) * overlap < side


def test_tiles_cost_little_more_than_the_image():
    slices = cuts(2048, 512, 16), cuts(1536, 512, 16)
    lengths = [pieces[0].stop - pieces[0].start for pieces in slices]
    assert tile_count(1536, 2048, 512, 16) == 20 and lengths == [432, 400]
    assert 20 * lengths[0] * lengths[1] < 1.1 * 2048 * 1536
    assert tile_count(400, 512, 512, 16) == tile_count(5000, 5000, None, 0) == 1


@pytest.mark.parametrize('larger', [0, 1])
def test_a_large_result_leaves_the_device_of_its_tiles_one_by_one(monkeypatch, larger):
    """Where there is no GPU, the meta device stands for it: nothing can leave it."""
    monkeypatch.setattr(tiling, 'LARGE_RESULT', 4 * 3 * 80 * 96 + 1 - larger)
    lq = torch.empty(1, 3, 40, 48, device='meta')

    def run():
        return restore_tiled(lambda piece: piece.repeat(1, 1, 2, 2), lq, 2, 32, 8)

    if larger:
        with pytest.raises(NotImplementedError, match='copy out of meta'):
            run()
    else:
        assert run().shape == (1, 3, 80, 96) and run().device == lq.device
