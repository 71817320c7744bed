"""Every shipped option file: parses, passes the check, builds network, losses and optimizer, agrees with its twins."""
import itertools
import re
import sys
from pathlib import Path

import diffrwkvir_arch  # noqa: F401
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import METRIC_REGISTRY, MODEL_REGISTRY

OPTIONS = Path(__file__).parent.parent / 'options'
FILES = sorted(OPTIONS.glob('*.yml'))
TESTS = [path for path in FILES if path.stem.startswith('test_')]


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def parameters(opt):
    return sum(p.numel() for p in build_network(dict(opt['network_g'])).parameters())


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_option_file_passes_the_check_and_builds(path, tmp_path, monkeypatch):
    from basicsr import test as basicsr_test
    from basicsr import train as basicsr_train
    is_train = path.stem.startswith('train_')
    opt = load(path)
    # What the check wants to find: the datasets, the stages before, and the weights of LPIPS.
    for dataset in opt['datasets'].values():
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            if key in dataset:
                (tmp_path / dataset[key]).mkdir(parents=True, exist_ok=True)
    stages = [opt['path'].get(f'pretrain_network_{label}') for label in ('s1', 'g')]
    for weights in [*filter(None, stages), 'hub/checkpoints/vgg16-397923af.pth']:
        (tmp_path / weights).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / weights).touch()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(path)])
    opt, _ = (basicsr_train if is_train else basicsr_test).parse_options(str(tmp_path), is_train)
    assert opt['name'] == path.stem
    assert MODEL_REGISTRY.get(opt['model_type'])
    network = build_network(opt['network_g'])
    for metric in opt['val']['metrics'].values():
        assert metric['type'] in METRIC_REGISTRY
        # Inpainted images are measured whole and in colour, super-resolved ones as the field does.
        protocol = (0, metric.get('test_y_channel')) if opt['scale'] == 1 else (opt['scale'], True)
        in_y = metric.get('test_y_channel')
        if metric['type'] == 'calculate_niqe':
            in_y = metric.get('convert_to', 'y') == 'y'
        assert (metric['crop_border'], in_y) == protocol
    if is_train:
        for loss in ('pixel_opt', 'kd_opt', 'gan_opt'):
            if loss in opt['train']:
                build_loss(opt['train'][loss])
        optimizer = dict(opt['train']['optim_g'])
        getattr(torch.optim, optimizer.pop('type'))(network.parameters(), **optimizer)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_the_commands_at_its_head_can_be_pasted(path):
    commands = re.findall(r'^#.* (train|test) +-opt (\S+)', path.read_text(encoding='utf-8'), re.MULTILINE)
    own = path.stem.split('_')[0]
    assert all(file == f'options/{path.name}' for verb, file in commands if verb == own)
    assert all((OPTIONS.parent / file).is_file() for _, file in commands)


@pytest.mark.parametrize('kind, first, second', [
    (kind, *pair) for kind in ('train_DiffRWKVIR_S1', 'train_DiffRWKVIR_S2', 'train_SwinIR', 'test_DiffRWKVIR_S2',
                               'test_DiffRWKVIR-tiny_S2', 'test_SwinIR')
    for pair in itertools.combinations((2, 3, 4), 2)])
def test_files_of_two_scales_differ_in_the_scale_alone(kind, first, second):
    texts = [(OPTIONS / f'{kind}_x{scale}.yml').read_text(encoding='utf-8') for scale in (first, second)]
    general = [re.sub(rf'(x|scale: &scale ){scale}\b|\bbicx{scale}', r'\1N', text)
               .replace(f'bicx{scale}', 'bicxN').replace(f'gt_size: {48 * scale} ', 'gt_size: 48N ')
               for text, scale in zip(texts, (first, second))]
    assert general[0] == general[1]


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_swapping_network_g_turns_our_training_into_swinirs(scale):
    ours, swinir = (load(OPTIONS / f'train_{name}_x{scale}.yml') for name in ('DiffRWKVIR_S1', 'SwinIR'))
    # One stage trains as long as two.
    assert swinir['train'].pop('total_iter') == 2 * ours['train'].pop('total_iter')
    milestones = [opt['train']['scheduler'].pop('milestones') for opt in (ours, swinir)]
    assert milestones[1] == [2 * milestone for milestone in milestones[0]]
    for key in ('datasets', 'train', 'val', 'logger', 'path', 'scale'):
        assert ours[key] == swinir[key]


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_the_recipe_is_the_papers(scale):
    opt = load(OPTIONS / f'train_DiffRWKVIR_S2_x{scale}.yml')
    train, data = opt['train'], opt['datasets']['train']
    assert data['gt_size'] == 48 * scale and data['batch_size_per_gpu'] == 16
    assert train['optim_g'] == {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]}
    assert train['scheduler']['gamma'] == 0.1 and train['pixel_opt']['type'] == 'L1Loss'


@pytest.mark.parametrize('path', TESTS, ids=lambda path: path.stem)
def test_what_is_tested_is_what_was_trained(path):
    test = load(path)
    folder = Path(test['path']['pretrain_network_g']).parts[:-1]
    # Weights that come with the package are of the demo's network, whatever their scale.
    train = load(OPTIONS / f'{folder[1] if folder else "train_DiffRWKVIR-tiny_S2_demo"}.yml')
    if not folder:
        train['scale'] = train['network_g']['scale'] = int(path.stem[-1])
    assert test['network_g'] == train['network_g'] and test['scale'] == train['scale']


@pytest.mark.parametrize('path', [path for path in FILES if 'train_' in path.stem and '_S2_' in path.stem],
                         ids=lambda path: path.stem)
def test_stage_two_continues_the_network_of_its_stage_one(path):
    stage2 = load(path)
    stage1 = load(OPTIONS / f'{Path(stage2["path"]["pretrain_network_s1"]).parts[1]}.yml')
    del stage1['network_g']['type']
    # Stage 2 has options of its own beside them: those of its diffusion.
    assert stage1['network_g'].items() <= stage2['network_g'].items()


@pytest.mark.parametrize('path', [path for path in FILES if '_GAN_' in path.stem], ids=lambda path: path.stem)
def test_stage_three_continues_stage_two_and_its_teacher_with_losses_of_its_own(path):
    stage3 = load(path)
    stage2 = load(OPTIONS / f'{Path(stage3["path"]["pretrain_network_g"]).parts[1]}.yml')
    for key in ('scale', 'datasets', 'network_g', 'val', 'logger'):
        assert stage3[key] == stage2[key]
    assert stage3['path']['pretrain_network_s1'] == stage2['path']['pretrain_network_s1']
    assert stage2['train'].items() <= stage3['train'].items()


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_the_five_benchmarks_are_tested(scale):
    for name in ('DiffRWKVIR_S2', 'SwinIR'):
        datasets = load(OPTIONS / f'test_{name}_x{scale}.yml')['datasets']
        assert [d['name'] for d in datasets.values()] == ['Set5', 'Set14', 'BSD100', 'Urban100', 'Manga109']


def test_sizes_are_what_their_names_say():
    assert 10.5e6 < parameters(load(OPTIONS / 'train_DiffRWKVIR_S2_x4.yml')) < 11.5e6
    assert parameters(load(OPTIONS / 'train_DiffRWKVIR-light_S2_x4.yml')) < 1e6
    assert parameters(load(OPTIONS / 'train_DiffRWKVIR-tiny_S2_demo.yml')) < 0.3e6
