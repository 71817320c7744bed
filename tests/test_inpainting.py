"""Inpainting: the 4-channel network, both stages from option file to saved PNG, metrics of the hole, refusals."""
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from inpainting_cases import BOX, HOLE_METRICS, NETWORK, batch, hole, options, write_images, write_mask
from train_two_steps import two_steps
from two_stage_cases import basicsr, run_model, train_both, train_in_two_processes

from diffrwkvir_arch.archs.diffrwkvir_s1_arch import DiffRWKVIRS1
from diffrwkvir_arch.archs.diffrwkvir_s2_arch import DiffRWKVIRS2
from diffrwkvir_arch.data.mask_presets import DrawnMasks
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.models.diffrwkvir_s1_model import DiffRWKVIRS1Model

SHIPPED = Path(__file__).parent.parent / 'options'


def small(arch, **options):
    torch.manual_seed(0)
    return arch(**{**NETWORK, **options})


def outputs(composite=True):
    lq, gt, mask = batch()
    return lq, mask, [small(DiffRWKVIRS1)(lq, gt, mask=mask, composite=composite),
                      small(DiffRWKVIRS2)(lq, mask=mask, composite=composite)]


def test_known_pixels_come_back_bit_for_bit_and_holes_do_not():
    lq, mask, restored = outputs()
    for image in restored:
        known = (mask == 0).expand_as(lq)
        assert torch.equal(image[known], lq[known]) and (image != lq)[~known].all()


def test_without_composite_known_pixels_are_the_networks_own():
    lq, mask, restored = outputs(composite=False)
    for image in restored:
        assert not torch.equal(image, lq) and (image != lq)[(mask == 0).expand_as(lq)].any()


def test_what_an_image_holds_under_its_hole_cannot_leak():
    lq, gt, mask = batch()
    other = torch.where(mask == 1, torch.rand_like(lq), lq)
    stage1, stage2 = small(DiffRWKVIRS1), small(DiffRWKVIRS2)
    assert torch.equal(stage1(lq, gt, mask=mask), stage1(other, gt, mask=mask))
    assert torch.equal(stage2(lq, mask=mask), stage2(other, mask=mask))


def test_the_prior_encoders_see_112_and_64_channels():
    assert small(DiffRWKVIRS1).encoder.stem.in_channels == (4 + 3) * 16 == 112
    assert small(DiffRWKVIRS2).condition.stem.in_channels == 4 * 16


def test_prior_and_restoration_depend_on_the_mask_and_make_up_forward():
    lq, _, mask = batch()
    net = small(DiffRWKVIRS2).eval()
    prior = net.extract_prior(lq, mask=mask)
    assert not torch.allclose(prior, net.extract_prior(lq, mask=1 - mask))
    restored, same = net(lq, mask=mask, return_prior=True)
    assert torch.equal(prior, same) and torch.equal(restored, net.restore(lq, prior, mask))


@pytest.mark.parametrize('arch', [DiffRWKVIRS1, DiffRWKVIRS2])
def test_gradients_reach_every_parameter(arch):
    # The prior encoder's coarsest scale has 2x2 tokens of 64x64 pixels; a single one would have no decay to learn.
    lq, gt, mask = batch(height=64, width=64)
    net = small(arch, dim=64, encoder_dim=32)  # a channel attention of one unit may be dead
    for name, parameter in net.named_parameters():
        if 'lora.A' in name:  # starts at zero, which blocks its partner's gradient at the first step
            torch.nn.init.normal_(parameter, std=0.1)
    images = (lq, gt) if arch is DiffRWKVIRS1 else (lq, )
    net(*images, mask=mask, composite=False).sub(gt).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_keeps_known_pixels():
    lq, _, mask = batch()
    with torch.autocast('cpu', torch.bfloat16):
        image = small(DiffRWKVIRS2)(lq, mask=mask)
    known = (mask == 0).expand_as(lq)
    assert torch.equal(image[known], lq[known])


@pytest.mark.parametrize('options, masked, message', [
    ({}, False, 'in_channels 4, got LQ with 3 channels without a mask; it inpaints, give it a mask'),
    ({'in_channels': 3}, True, 'in_channels 3, got LQ with 3 channels and a mask')])
def test_masks_and_networks_that_do_not_fit_are_refused(options, masked, message):
    lq, _, mask = batch()
    net = small(DiffRWKVIRS2, **options)
    with pytest.raises(ValueError, match=message):
        net.restore(lq, torch.zeros(2, 16), mask if masked else None)


def test_a_network_that_inpaints_and_enlarges_is_refused_when_it_is_built():
    with pytest.raises(ValueError, match='in_channels: 4 beside out_channels: 3 inpaints, .* scale 1, got 4'):
        small(DiffRWKVIRS2, scale=4)


def test_a_mask_of_another_shape_is_refused():
    lq, _, mask = batch()
    with pytest.raises(ValueError, match=r'mask must be \(2, 1, 10, 9\) .*got \(2, 10, 9\)'):
        small(DiffRWKVIRS2)(lq, mask=mask[:, 0])


# Both stages through BasicSR's pipelines

def options_of_a_test(root, name, dataset, **val):
    """The option dict that tests stage 2 on one dataset."""
    opt = options(2, root, name)
    del opt['train'], opt['logger']
    opt['datasets'] = {'test': {'name': 'own', 'type': 'InpaintingDataset', **dataset}}
    opt['path'] = {'pretrain_network_g': 'experiments/stage2/models/net_g_latest.pth', 'param_key_g': 'params_ema'}
    opt['val'] = {'save_img': True, 'metrics': HOLE_METRICS, **val}
    return opt


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder in which both stages were trained for two iterations."""
    root = tmp_path_factory.mktemp('inpainting')
    write_images(root / 'gt')
    train_both(root, options)
    return root


@pytest.fixture
def root(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def test_both_stages_train_validate_and_log_the_metrics_of_the_hole(root):
    for stage in (1, 2):
        log = next((root / f'experiments/stage{stage}').glob('train_*.log')).read_text()
        found = {name: float(value) for name, value in re.findall(r'# (\w+): (\S+)', log)}
        assert set(found) == set(HOLE_METRICS) and all(np.isfinite(value) for value in found.values())
        # A quarter of the pixels is hole and the others are exact.
        assert found['psnr'] - found['hole_psnr'] == pytest.approx(10 * np.log10(4), abs=0.1)


def test_known_pixels_of_saved_images_are_those_of_the_files(root):
    assert not basicsr('test', options_of_a_test(root, 'exact', {'dataroot_gt': str(root / 'gt'), 'mask': BOX}), root)
    for path in sorted((root / 'gt').iterdir()):
        gt = cv2.imread(str(path))
        saved = cv2.imread(str(root / f'results/exact/visualization/own/{path.stem}_exact.png'))
        mask = DrawnMasks('mask', **BOX).of_stem(path.stem, *gt.shape[:2]) == 1
        assert np.array_equal(saved[~mask], gt[~mask])
        assert (saved[mask] != gt[mask]).any(1).mean() > 0.9


def test_own_images_are_restored_with_own_masks_and_without_ground_truth(root):
    for path in (root / 'gt').iterdir():
        write_mask(root / 'own_masks', f'{path.stem}_mask.png', hole(*cv2.imread(str(path)).shape[:2]))
    own = {'dataroot_lq': str(root / 'gt'), 'dataroot_mask': str(root / 'own_masks'), 'filename_tmpl': '{}_mask'}
    assert not basicsr('test', options_of_a_test(root, 'own', own), root)
    saved = cv2.imread(str(root / 'results/own/visualization/own/00_own.png'))
    changed = (saved != cv2.imread(str(root / 'gt/00.png'))).any(2)
    assert changed.any() and not changed[hole(32, 40) == 0].any()


@pytest.mark.parametrize('train, known_weight', [({'known_weight': 0.2}, 0.2), ({}, 1.0)])
def test_the_pixel_loss_is_each_images_weighted_mean_over_hole_and_known_pixels(root, train, known_weight):
    lq, gt, mask = batch(height=8, width=8)
    mask[1, :, 2:] = 0
    model = run_model(options(1, root, **train))
    model.feed_data({'lq': lq, 'gt': gt, 'mask': mask})
    losses = model.compute_losses()
    error = (model.output - gt).abs().mean(1, keepdim=True)
    weight = torch.where(mask == 1, 1.0, known_weight)
    torch.testing.assert_close(losses['l_pix'], ((weight * error).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean())
    assert (model.output != lq)[(mask == 0).expand_as(lq)].all()


def test_an_image_without_a_hole_is_learnt_as_a_whole(root):
    lq, gt, mask = batch(n=1, height=8, width=8)
    model = run_model(options(1, root, known_weight=0.0))
    model.feed_data({'lq': lq, 'gt': gt, 'mask': 0 * mask})
    torch.testing.assert_close(model.compute_losses()['l_pix'], (model.output - gt).abs().mean())


def sgd_options(root, stage=1, known_weight=0.0, **train):
    return options(stage, root, ema_decay=0, optim_g={'type': 'SGD', 'lr': 0.1}, known_weight=known_weight, **train)


def micro_batch_options(root):
    return sgd_options(root, micro_batch_size_per_gpu=1)


@pytest.mark.parametrize('size, known_weight', [(1, 0.0), (3, 0.2)])
def test_micro_batches_make_the_step_of_the_whole_batch_whatever_the_sizes_of_holes(root, size, known_weight):
    one, several = (two_steps(sgd_options(root, known_weight=known_weight, **train))['net_g']
                    for train in ({}, {'micro_batch_size_per_gpu': size}))
    for key in one:
        torch.testing.assert_close(several[key], one[key], atol=2e-6, rtol=1e-4)


def test_two_processes_take_micro_batches_as_one_takes_the_whole(root, tmp_path):
    one = two_steps(sgd_options(root))['net_g']
    two = train_in_two_processes(__name__, tmp_path / 'two.pth', 'micro_batch_options')['net_g']
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=2e-6, rtol=1e-4)


def test_the_teacher_of_stage_two_sees_the_mask(root):
    lq, gt, mask = batch(height=8, width=8)
    model = run_model(options(2, root))
    seen = []
    model.teacher.register_forward_hook(lambda module, inputs, prior: seen.append((inputs, prior)))
    model.feed_data({'lq': lq, 'gt': gt, 'mask': mask})
    model.optimize_parameters(1)
    assert torch.equal(seen[0][0][2], mask) and set(model.log_dict) == {'l_pix', 'l_kd'}


@pytest.mark.parametrize('weights, message', [
    ({'known_weight': -1}, 'train.known_weight must be a number of at least 0, got -1'),
    ({'clip_grad_norm': -1}, 'train.clip_grad_norm must be a number of at least 0, got -1'),
    ({'amp': 'fp16'}, 'train.amp must be one of None, bf16, got .fp16'),
])
def test_values_that_cannot_be_used_are_refused(root, weights, message):
    with pytest.raises(InputError, match=message):
        DiffRWKVIRS1Model.check_options({**options(1, root, **weights), 'is_train': True})


def test_a_dataset_without_masks_is_refused_in_one_line(root, capsys):
    opt = options_of_a_test(root, 'maskless', {})
    opt['datasets']['test'] |= {'type': 'SingleImageDataset', 'dataroot_lq': str(root / 'gt')}
    assert basicsr('test', opt, root) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == ('basicsr: error: DiffRWKVIRS2 with in_channels: 4 inpaints, and this dataset has no masks: use '
                     'type InpaintingDataset')


def test_a_network_without_mask_channel_is_refused_in_one_line(root, capsys):
    opt = options(1, root, 'three')
    opt['network_g']['in_channels'] = 3
    assert basicsr('train', opt, root) == 2
    assert 'takes no mask, and this dataset has masks' in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_weight_of_a_hole_is_no_option_any_more(root, capsys):
    assert basicsr('train', options(1, root, 'old', hole_weight=1.0), root) == 2
    assert "unknown option 'train.hole_weight' (did you mean 'known_weight'?)" in capsys.readouterr().err


@pytest.mark.parametrize('change, message', [
    ({'mask': {'preset': 'boxx'}}, "datasets.val.mask.preset: unknown preset 'boxx' (did you mean 'box'?)"),
    ({'mask': {'preset': 'box', 'sead': 0}}, "unknown option 'datasets.val.mask.sead' (did you mean 'seed'?)"),
    ({'mask': None, 'dataroot_mask': 'nowhere'}, 'datasets.val.dataroot_mask: nowhere does not exist'),
    ({'maks': BOX}, "unknown option 'datasets.val.maks' (did you mean 'mask'?)")])
def test_what_is_wrong_in_an_option_file_is_told_before_anything_is_written(root, capsys, change, message):
    opt = options(1, root, 'wrong')
    opt['datasets']['val'] |= change
    assert basicsr('train', opt, root) == 2
    assert message in capsys.readouterr().err and not (root / 'experiments/wrong').exists()


@pytest.mark.parametrize('path', sorted(SHIPPED.glob('*inpaint*.yml')), ids=lambda path: path.stem)
def test_shipped_files_inpaint_with_the_papers_recipe_and_count_the_hole(path):
    opt = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert opt['scale'] == 1 and opt['network_g']['in_channels'] == 4 and opt['network_g']['out_channels'] == 3
    assert all(dataset['type'] == 'InpaintingDataset' for dataset in opt['datasets'].values())
    assert {'hole_psnr', 'hole_ssim', 'psnr', 'ssim'} == set(opt['val']['metrics'])
    if 'train' in opt:
        assert opt['train']['known_weight'] == 0
        assert opt['datasets']['train']['batch_size_per_gpu'] == 16
        assert opt['train']['optim_g'] == {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]}


def test_there_are_files_for_both_stages_and_three_datasets_and_one_for_the_third_stage():
    names = {'train_DiffRWKVIR_GAN_inpaint_places256'}
    names |= {f'{verb}_DiffRWKVIR_S{stage}_inpaint_{data}' for verb in ('train', 'test') for stage in (1, 2)
             for data in ('places256', 'celebahq256', 'murals')}
    assert {path.stem for path in SHIPPED.glob('*inpaint*.yml')} == names
