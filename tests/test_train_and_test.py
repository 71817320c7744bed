"""`basicsr train` and `basicsr test` from end to end, by option files."""
import os

import cv2
import numpy as np
import pytest
import torch

from cli_cases import as_test, error_line
from lmdb_cases import make_lmdb


def test_training_and_testing_leave_their_files_in_the_current_directory(run, options, workdir):
    assert run('train', options)[0] == 0
    assert sorted(os.listdir('experiments/tiny/models')) == ['net_g_3.pth', 'net_g_6.pth', 'net_g_latest.pth']
    assert sorted(os.listdir('experiments/tiny/training_states')) == ['3.state', '6.state']
    options['val']['save_img'] = True
    assert run('test', as_test(options))[0] == 0
    assert sorted(os.listdir('results/tiny/visualization/some'))[0] == '00_tiny.png'
    (log, ) = [name for name in os.listdir('results/tiny') if name.endswith('.log')]
    assert '# psnr:' in open(f'results/tiny/{log}', encoding='utf-8').read()
    # As BasicSR: a second run archives the first.
    assert run('train', options)[0] == 0
    assert len([name for name in os.listdir('experiments') if name.startswith('tiny_archived_')]) == 1
    header = open('experiments/tiny/tiny.yml', encoding='utf-8').read()
    assert '# basicsr train -opt ' in header


def test_swinir_trains_and_tests_by_a_standard_option_file(run, options):
    options.update(model_type='SwinIRModel', network_g={
        'type': 'SwinIR', 'upscale': 2, 'in_chans': 3, 'img_size': 8, 'window_size': 4, 'img_range': 1., 'depths': [2],
        'embed_dim': 8, 'num_heads': [2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'resi_connection': '1conv'
    })
    options['train'].update(total_iter=2, scheduler={'type': 'MultiStepLR', 'milestones': [1], 'gamma': 0.5})
    assert run('train', options)[0] == 0
    assert run('test', as_test(options))[0] == 0


@pytest.mark.parametrize('loading', [{'num_worker_per_gpu': 1}, {'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu'}])
def test_training_reaches_total_iter_with_workers_and_prefetching(run, options, loading):
    options['datasets']['train'].update(batch_size_per_gpu=4, **loading)
    assert run('train', options)[0] == 0
    assert os.path.isfile('experiments/tiny/training_states/6.state')


def test_training_and_validation_may_share_one_lmdb(run, options, image_folders):
    for side, folder in zip(('gt', 'lq'), image_folders):
        store = make_lmdb(folder)
        for phase in ('train', 'val'):
            options['datasets'][phase][f'dataroot_{side}'] = store
            options['datasets'][phase].pop('io_backend', None)
    options['val']['val_freq'] = 2
    for workers in (0, 1):
        options['datasets']['train']['num_worker_per_gpu'] = workers
        assert run('train', options)[0] == 0


def test_grey_alpha_and_sixteen_bit_images_train(run, options, image_folders):
    gt, lq = image_folders
    for number, convert in enumerate([lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
                                      lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2BGRA),
                                      lambda image: image.astype(np.uint16) * 257]):
        path = str(lq / f'{number:02d}.png')
        cv2.imwrite(path, convert(cv2.imread(path)))
    code, errors = run('train', options)
    assert code == 0 and 'alpha channel; it is dropped' in errors


def test_images_without_ground_truth_are_restored(run, options):
    assert run('train', options)[0] == 0
    test = as_test(options)
    test['datasets'] = {'test_1': {'name': 'own', 'type': 'SingleImageDataset',
                                   'dataroot_lq': options['datasets']['val']['dataroot_lq']}}
    assert 'compares with a ground truth' in error_line(run('test', test))
    del test['val']
    assert run('test', test)[0] == 0
    assert len(os.listdir('results/tiny/visualization/own')) == 6


@pytest.mark.parametrize('model_type', ['SRModel', 'RestorationModel'])
def test_sets_with_equal_names_keep_their_images_apart(run, options, model_type):
    options['model_type'] = model_type
    options['datasets']['val_2'] = {**options['datasets']['val'], 'name': 'more'}
    options['val'].update(save_img=True, val_freq=6)
    code, errors = run('train', options)
    assert code == 0 and 'only* supported' not in errors
    folder = 'experiments/tiny/visualization'
    assert sorted(os.listdir(folder)) == ['more', 'some']
    assert os.listdir(f'{folder}/more/00') == os.listdir(f'{folder}/some/00') == ['00_6.png']
    del options['datasets']['val_2']
    assert run('train', options)[0] == 0
    assert sorted(os.listdir(folder))[0] == '00'


def test_forced_options_reach_the_run(run, options):
    code, _ = run('train', options, '--force_yml', 'train:total_iter=2', 'train:optim_g:lr=1e-4', 'name=other')
    state = torch.load('experiments/other/models/net_g_latest.pth')
    assert code == 0 and 'params_ema' in state
    assert 'lr:(1.000e-04' in ''.join(open(f'experiments/other/{name}').read()
                                      for name in os.listdir('experiments/other') if name.endswith('.log'))
