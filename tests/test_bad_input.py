"""What a user can put right, `basicsr train` and `basicsr test` tell in one line."""
import errno
import os

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from cli_cases import as_test, error_line, fail_with
from diffrwkvir_arch.cli import main
from option_cases import put


def option(path, value):
    """Spoils one option."""
    return lambda options, gt, lq: put(options, path, value)


def lq_file(content):
    """Spoils one LQ image."""
    return lambda options, gt, lq: (lq / '03.png').write_bytes(content)


def lq_name(options, gt, lq):
    (lq / '03.png').rename(lq / '3.png')


def lq_size(options, gt, lq):
    cv2.imwrite(str(lq / '03.png'), np.zeros((8, 10, 3), np.uint8))


def no_lmdb(options, gt, lq):
    options['datasets']['train'].update(dataroot_gt='gt.lmdb', dataroot_lq='lq.lmdb', io_backend={'type': 'lmdb'})


# What is wrong, how it comes about, and what the line must name.
BAD_INPUT = {
    'missing folder': (option('datasets.train.dataroot_gt', 'no/where'), ['datasets.train.dataroot_gt', 'no/where']),
    'missing LMDB': (no_lmdb, ['datasets.train.dataroot_gt', 'gt.lmdb']),
    'folder that is no LMDB': (option('datasets.train.io_backend', {'type': 'lmdb'}), ["dataset 'some'", 'NAME.lmdb']),
    'unpaired names': (lq_name, ["dataset 'some'", 'GT without LQ: 03.png', 'LQ without GT: 3.png', 'filename_tmpl']),
    'wrong sizes': (lq_size, ['lq/03.png is 10x8', 'gt/03.png is 40x32', 'wrong scale']),
    'corrupt image': (lq_file(b'\x89PNG no more'), ['lq/03.png', 'damaged', 'replace or remove']),
    'empty image': (lq_file(b''), ['lq/03.png', 'empty']),
    'batch larger than data': (option('datasets.train.batch_size_per_gpu', 32),
                               ['batch_size_per_gpu to 6', 'dataset_enlarge_ratio to 6', '6 images']),
    'patch larger than image': (option('datasets.train.gt_size', 64), ['gt_size 64', '.png: 40x32']),
    'misspelt option': (option('train.ema_deacy', 0.9), ["'train.ema_deacy'", "did you mean 'ema_decay'"]),
    'unknown arch': (option('network_g.type', 'SwinIRR'), ['network_g.type', "'SwinIRR'", "did you mean 'SwinIR'"]),
    'unknown model': (option('model_type', 'SRModle'), ['model_type', "did you mean 'SRModel'"]),
    'no such state': (option('path.resume_state', 'x.state'), ['path.resume_state', 'x.state does not exist']),
    'no such weights': (option('path.pretrain_network_g', 'x.pth'), ['path.pretrain_network_g', 'does not exist']),
    'bad learning rate': (option('train.optim_g.lr', -1.0), ['lr: -1.0']),
}


@pytest.mark.parametrize('case', BAD_INPUT)
def test_bad_input_ends_with_one_line_that_names_it(run, options, image_folders, case):
    spoil, named = BAD_INPUT[case]
    spoil(options, *image_folders)
    line = error_line(run('train', options))
    assert all(words in line for words in named), line


@pytest.mark.parametrize('case', ['missing folder', 'unpaired names', 'batch larger than data', 'unknown arch'])
def test_what_cannot_be_used_leaves_an_earlier_run_of_that_name_where_it_is(run, options, image_folders, workdir, case):
    spoil, _ = BAD_INPUT[case]
    spoil(options, *image_folders)
    for root in ('experiments', 'tb_logger'):
        (workdir / root / 'tiny').mkdir(parents=True)
    before = sorted(workdir.rglob('*'))
    error_line(run('train', options))
    assert [path for path in sorted(workdir.rglob('*')) if path.suffix != '.yml'] == before


@pytest.mark.parametrize('loading', [{'num_worker_per_gpu': 1}, {'prefetch_mode': 'cpu'},
                                     {'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu'}])
def test_a_bad_image_is_named_from_workers_too(run, options, image_folders, loading):
    (image_folders[1] / '03.png').write_bytes(b'')
    options['datasets']['train'].update(loading)
    line = error_line(run('train', options))
    assert line.endswith('lq/03.png: the image file is empty (0 bytes)') and line.count('error') == 1


def test_testing_what_was_not_trained_says_how_it_is_and_leaves_earlier_results(run, options, workdir):
    (workdir / 'results' / 'tiny').mkdir(parents=True)
    line = error_line(run('test', as_test(options)))
    assert line.endswith('models/net_g_latest.pth does not exist (seen from '
                         f'{workdir}); training makes it: basicsr train -opt options/tiny.yml')
    assert os.listdir('results') == ['tiny'] and not os.listdir('results/tiny')


def test_a_checkpoint_of_another_network_is_named(run, options, workdir):
    other = build_network(dict(options['network_g'], upscale=4))
    torch.save({'params': other.state_dict()}, 'x4.pth')
    line = error_line(run('test', as_test(options, 'x4.pth')))
    assert 'path.pretrain_network_g: x4.pth does not fit EDSR' in line and 'another scale' in line


@pytest.mark.parametrize('text, named', [('name: [\n', 'line 2'), ('name: x\n\tscale: 2\n', 'line 2'), ('', 'nothing'),
                                         ('name: x\n', 'missing options: model_type, datasets, train')])
def test_a_malformed_option_file_is_named_with_its_line(workdir, capfd, text, named):
    (workdir / 'bad.yml').write_text(text)
    line = error_line((main(['train', '-opt', 'bad.yml']), capfd.readouterr().err))
    assert named in line


def test_a_missing_option_file_is_named(workdir, capfd):
    line = error_line((main(['test', '-opt', 'nowhere.yml']), capfd.readouterr().err))
    assert '-opt: nowhere.yml does not exist' in line


def test_a_launcher_without_torchrun_is_told_the_command(run, options, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    # BasicSR would choose spawn for all tests that follow.
    monkeypatch.setattr('torch.multiprocessing.set_start_method', lambda method: None)
    assert 'torchrun --nproc_per_node' in error_line(run('train', options, '--launcher', 'pytorch'))


def test_a_full_disk_ends_training_with_one_line(run, options, monkeypatch):

    def full(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    assert 'no space left on device for ' in error_line(run('train', options))
    assert os.listdir('experiments/tiny/models') == []


def test_debug_shows_the_traceback_as_well(run, options):
    options['train']['ema_deacy'] = 1
    code, errors = run('train', options, '--debug')
    assert code == 2 and 'Traceback' in errors and errors.strip().splitlines()[-1].startswith('basicsr: error: ')


def test_other_operating_system_errors_are_one_line_where_they_say_it_all(monkeypatch, capfd):
    fail_with(monkeypatch, OSError(errno.ENOSPC, 'No space left on device', 'x.log'))
    assert 'no space left on device for x.log' in error_line((main(['test']), capfd.readouterr().err))
    fail_with(monkeypatch, KeyboardInterrupt())
    assert main(['test']) == 130 and capfd.readouterr().err == 'basicsr: interrupted\n'
    for number, text in ((errno.EACCES, 'Permission denied'), (errno.EROFS, 'Read-only file system')):
        fail_with(monkeypatch, OSError(number, text, 'results'))
        assert f'results: {text}' in error_line((main(['test']), capfd.readouterr().err))
    fail_with(monkeypatch, OSError(errno.EFBIG, 'File too large', 'x.log'))
    assert 'x.log: larger than files may be here' in error_line((main(['test']), capfd.readouterr().err))
    fail_with(monkeypatch, OSError(errno.EDQUOT, 'Disk quota exceeded', 'x.log'))
    assert 'no space left on device for x.log' in error_line((main(['test']), capfd.readouterr().err))
    for number, text in ((errno.ENOENT, 'No such file or directory'), (errno.ENOTDIR, 'Not a directory')):
        fail_with(monkeypatch, OSError(number, text, '/proc/x'))
        assert f'/proc/x: {text}' in error_line((main(['test']), capfd.readouterr().err))
    # What nobody foresaw keeps its traceback.
    fail_with(monkeypatch, RuntimeError('shape'))
    with pytest.raises(RuntimeError):
        main(['test'])
