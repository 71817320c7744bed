"""How models restore an image in validation and test: tiles, self-ensemble, memory that does not suffice."""
import diffrwkvir_arch  # noqa: F401
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.registry import MODEL_REGISTRY
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.self_ensemble import SYMMETRIES, bring_back, self_ensemble, turn

OURS = dict(dim=16, groups=1, blocks=1, head_dim=4, prior_dim=16, encoder_dim=8, upsampler='direct')
STAGE1, STAGE2 = (dict(model_type=f'DiffRWKVIRS{n}Model', network_g={'type': f'DiffRWKVIRS{n}', 'scale': 2, **OURS})
                  for n in (1, 2))
SWINIR = dict(model_type='RestorationModel', network_g={
    'type': 'SwinIR', 'upscale': 2, 'img_size': 8, 'window_size': 4, 'depths': [1], 'embed_dim': 8, 'num_heads': [2],
    'mlp_ratio': 1, 'upsampler': 'pixelshuffledirect'})
INPAINTING = dict(model_type='DiffRWKVIRS2Model', scale=1, network_g={
    'type': 'DiffRWKVIRS2', 'scale': 1, 'in_channels': 4, **OURS})


def restored(kind, image, **val):
    """(the model after its test of an image, its output); every model of a kind has the same weights."""
    torch.manual_seed(0)
    model = build_model({'num_gpu': 0, 'is_train': False, 'dist': False, 'path': {}, 'scale': 2, **kind, 'val': val})
    model.feed_data(image)
    model.test()
    return model, model.output


def image(*size, scale=2, holes=False):
    torch.manual_seed(1)
    lq, gt = torch.rand(1, 3, *size), torch.rand(1, 3, *(scale * side for side in size))
    mask = torch.zeros(1, 1, *size)
    mask[..., 5:14, 3:20] = 1
    return {'lq': lq * (1 - mask) if holes else lq, 'gt': gt, **({'mask': mask} if holes else {})}


# Windows of SwinIR lie elsewhere in a tile than in the image.
@pytest.mark.parametrize('kind, share', [(STAGE1, 0.02), (STAGE2, 0.02), (SWINIR, 0.2)], ids=['s1', 's2', 'swinir'])
def test_one_tile_with_the_whole_image_is_no_tile_and_smaller_ones_come_near(kind, share):
    data = image(22, 27)
    model, whole = restored(kind, data)
    assert whole.shape == (1, 3, 44, 54) and torch.equal(restored(kind, data, tile=27)[1], whole)
    tiled_model, tiled = restored(kind, data, tile=20, tile_overlap=8)
    assert not torch.equal(tiled, whole) and (tiled - whole).abs().mean() < share * whole.std()
    # What validation saves and measures besides is the whole image's.
    assert tiled_model.lq.shape == (1, 3, 22, 27) and tiled_model.gt.shape == model.gt.shape


@pytest.mark.parametrize('training', [True, False])
def test_a_network_is_in_the_mode_after_its_test_that_it_was_in_before(training):
    model, _ = restored(STAGE2, image(8, 8))
    model.net_g.train(training)
    modes = []
    model.net_g.register_forward_pre_hook(lambda net, images: modes.append(net.training))
    model.test()
    assert modes == [False] and model.net_g.training is training


def test_tiles_have_as_many_channels_as_the_network_makes():
    grey = dict(model_type='RestorationModel', network_g={
        'type': 'VDSR', 'upscale': 2, 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 4, 'num_conv': 3})
    data = {'lq': image(12, 12)['lq'][:, :1]}
    whole, tiled = restored(grey, data)[1], restored(grey, data, tile=10, tile_overlap=8)[1]
    assert tiled.shape == whole.shape == (1, 1, 24, 24) and (tiled - whole).abs().mean() < 0.2 * whole.std()


@pytest.mark.parametrize('kind', [STAGE1, STAGE2], ids=['stage 1', 'stage 2'])
def test_tiles_share_the_prior_of_the_whole_image(kind, monkeypatch):
    seen, model_class = [], MODEL_REGISTRY.get(kind['model_type'])
    extract = model_class.extract_prior
    monkeypatch.setattr(model_class, 'extract_prior',
                        lambda self, net: seen.append(self.lq.shape) or extract(self, net))
    restored(kind, image(20, 30), tile=16, tile_overlap=4)
    assert seen == [(1, 3, 20, 30)]


@pytest.mark.parametrize('kind', [STAGE1, STAGE2, SWINIR], ids=lambda kind: kind['network_g']['type'])
def test_self_ensemble_is_the_mean_over_flips_and_turns(kind):
    data = image(12, 17)
    expected = 0
    for flipped, turns in SYMMETRIES:
        turned = {name: turn(x, flipped, turns) for name, x in data.items()}
        expected = expected + bring_back(restored(kind, turned)[1], flipped, turns) / 8
    model, output = restored(kind, data, self_ensemble=True)
    assert torch.allclose(output, expected, atol=1e-6) and not torch.equal(output, restored(kind, data)[1])
    assert torch.equal(model.lq, data['lq']) and torch.equal(model.gt, data['gt'])


def test_the_symmetries_are_eight_and_come_back():
    x = torch.rand(1, 2, 5, 7)
    assert len({tuple(turn(x, *which).flatten().tolist()) for which in SYMMETRIES}) == 8
    assert torch.allclose(self_ensemble(lambda y, nothing: y, x, None), x, atol=1e-6)


@pytest.mark.parametrize('val', [dict(tile=16), dict(self_ensemble=True), dict(tile=16, self_ensemble=True)], ids=str)
def test_known_pixels_of_an_inpainted_image_stay_what_they_were(val):
    data = image(21, 26, scale=1, holes=True)
    output = restored(INPAINTING, data, **val)[1]
    known = (data['mask'] == 0).expand_as(output)
    assert torch.equal(output[known], data['lq'][known])
    assert not torch.equal(output, restored(INPAINTING, data)[1])


def test_an_image_without_a_gt_after_one_with_it():
    model, _ = restored(STAGE2, image(12, 17), tile=8, self_ensemble=True)
    model.feed_data({'lq': image(12, 17)['lq']})
    model.test()
    assert not hasattr(model, 'gt') and model.output.shape == (1, 3, 24, 34)


@pytest.mark.parametrize('fill', [lambda: torch.empty(2 ** 46), lambda: bytearray(2 ** 60)], ids=['PyTorch', 'Python'])
@pytest.mark.parametrize('val, tile', [({}, 20), ({'tile': 16}, 8)], ids=['whole', 'tiled'])
def test_memory_that_does_not_suffice_names_the_tile_to_try(monkeypatch, fill, val, tile):
    monkeypatch.setattr(MODEL_REGISTRY.get('DiffRWKVIRS2Model'), 'infer', lambda self, net: fill())
    with pytest.raises(InputError, match=f'40x30 pixels is too large.*val.tile: {tile}$'):
        restored(STAGE2, image(30, 40), **val)


@pytest.mark.parametrize('val, told', [
    (dict(tile=0), 'val.tile must be a whole number of at least 1, got 0'),
    (dict(tile=2.5), 'val.tile must be a whole number'), (dict(tile=True), 'val.tile must be a whole number'),
    (dict(tile_overlap=4), 'val.tile_overlap must be at least 0'),
    (dict(tile=8, tile_overlap=8), 'less than val.tile, got 8 and 8'),
    (dict(self_ensemble=8), 'val.self_ensemble must be true or false, got 8'),
    (dict(tiles=8), "'val.tiles'")])
def test_what_cannot_work_is_refused(options, write_options, capsys, val, told):
    options['model_type'] = 'RestorationModel'
    del options['datasets']['train'], options['train'], options['val']['val_freq']
    options['val'].update(val)
    assert main(['test', '-opt', write_options(options)]) == 2
    assert told in capsys.readouterr().err


def test_basicsr_test_restores_in_tiles(options, write_options, workdir):
    options['model_type'] = 'RestorationModel'
    del options['datasets']['train'], options['train'], options['val']['val_freq']
    options['val'].update(tile=12, self_ensemble=True, save_img=True)
    assert main(['test', '-opt', write_options(options)]) == 0
    assert len(list((workdir / 'results/tiny/visualization/some').glob('*.png'))) == 6


def test_windows_that_an_option_file_leaves_out_are_padded_too():
    network_g = {key: value for key, value in SWINIR['network_g'].items() if key != 'window_size'}
    assert restored({**SWINIR, 'network_g': network_g}, image(10, 13))[1].shape == (1, 3, 20, 26)


@pytest.mark.parametrize('val', [{}, {'tile': 9, 'tile_overlap': 0}])
def test_a_scale_that_is_left_open_is_one(val):
    network_g = {**SWINIR['network_g'], 'upscale': 1, 'upsampler': ''}
    assert restored({**SWINIR, 'network_g': network_g, 'scale': None}, image(10, 13), **val)[1].shape == (1, 3, 10, 13)
