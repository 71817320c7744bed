"""The `basicsr` command from end to end: it trains and tests, and tells in one line what a user can put right."""
import errno
import os
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from PIL import Image
from torch.distributed import TCPStore

from diffrwkvir_arch import cli
from diffrwkvir_arch.cli import is_command, main
from diffrwkvir_arch.errors import InputError
from lmdb_cases import make_lmdb
from option_cases import put


@pytest.fixture
def run(write_options, capfd):
    """Runs a verb on an option dict; returns the exit code and what came on stderr."""

    def run_verb(verb, options, *flags):
        code = main([verb, '-opt', write_options(options), *flags])
        return code, capfd.readouterr().err

    return run_verb


def error_line(result):
    """The one line of a run that ended with exit code 2."""
    code, errors = result
    lines = errors.strip().splitlines()
    assert code == 2 and lines[-1].startswith('basicsr: error: ') and 'Traceback' not in errors, errors
    assert sum(line.startswith('basicsr: error') for line in lines) == 1
    return lines[-1]


def as_test(options, weights='experiments/tiny/models/net_g_latest.pth'):
    """The option dict that tests what the given one trained."""
    opt = {key: options[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g', 'val')}
    return {**opt, 'datasets': {'test_1': options['datasets']['val']}, 'path': {'pretrain_network_g': weights}}


# ----- what works -----


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


# ----- what a user can put right -----


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
    assert 'torchrun --nproc_per_node' in error_line(run('train', options, '--launcher', 'pytorch'))


def test_a_full_disk_ends_training_with_one_line(run, options, monkeypatch):

    def full(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    assert 'no space left on device for ' in error_line(run('train', options))
    assert os.listdir('experiments/tiny/models') == []


def test_an_unknown_verb_is_answered_with_the_nearest(capfd):
    line = error_line((main(['trian']), capfd.readouterr().err))
    assert "unknown verb 'trian' (did you mean 'train'?)" in line


def test_debug_shows_the_traceback_as_well(run, options):
    options['train']['ema_deacy'] = 1
    code, errors = run('train', options, '--debug')
    assert code == 2 and 'Traceback' in errors and errors.strip().splitlines()[-1].startswith('basicsr: error: ')


def fail_with(monkeypatch, error):
    def verb(arguments):
        raise error

    monkeypatch.setitem(cli.VERBS, 'test', verb)


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


@pytest.mark.parametrize('environment', [
    # As by a launcher that keeps nothing for its processes.
    {'RANK': '1', 'WORLD_SIZE': '2'},
    # Of srun's task, before it has found the others.
    {'SLURM_PROCID': '1', 'SLURM_STEP_NUM_TASKS': '2'},
])
def test_other_ranks_leave_the_word_to_the_first(monkeypatch, capfd, environment):
    pauses = []
    monkeypatch.setattr(time, 'sleep', pauses.append)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fail_with(monkeypatch, InputError('bad'))
    assert main(['test']) == 2 and pauses == [10]
    fail_with(monkeypatch, KeyboardInterrupt())
    capfd.readouterr()
    assert main(['test']) == 130 and capfd.readouterr().err == ''


@pytest.mark.parametrize('environment', [
    {'RANK': '', 'WORLD_SIZE': ''}, {'RANK': '3', 'WORLD_SIZE': '1'},
    {'SLURM_PROCID': '3', 'SLURM_STEP_NUM_TASKS': '1'}, {'SLURM_PROCID': '0', 'SLURM_STEP_NUM_TASKS': '4'}])
def test_a_process_alone_tells_its_error_at_once_whatever_its_rank(monkeypatch, capfd, environment):
    pauses = []
    monkeypatch.setattr(time, 'sleep', pauses.append)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for error, told in ((InputError('bad'), 'basicsr: error: bad\n'), (KeyboardInterrupt(), 'basicsr: interrupted\n')):
        fail_with(monkeypatch, error)
        main(['test'])
        assert capfd.readouterr().err == told and not pauses


def test_of_torchruns_processes_the_first_to_fail_tells_and_those_that_lose_it_are_silent(monkeypatch, capfd):
    store = TCPStore('127.0.0.1', 0, is_master=True)
    for name, value in {'RANK': '1', 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(store.port),
                        'TORCHELASTIC_USE_AGENT_STORE': 'True', 'TORCHELASTIC_RESTART_COUNT': '0'}.items():
        monkeypatch.setenv(name, value)
    lost, bad = RuntimeError('Connection closed by peer'), InputError('bad')
    fail_with(monkeypatch, lost)
    with pytest.raises(RuntimeError):
        main(['test'])
    fail_with(monkeypatch, bad)
    assert main(['test']) == 2 and capfd.readouterr().err == 'basicsr: error: bad\n'
    for error in (bad, lost):
        fail_with(monkeypatch, error)
        assert main(['test']) == 2 and capfd.readouterr().err == ''
    with pytest.raises(RuntimeError):
        main(['test', '--debug'])
    # Those that torchrun has started again tell it again.
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    fail_with(monkeypatch, bad)
    assert main(['test']) == 2 and capfd.readouterr().err == 'basicsr: error: bad\n'


# ----- the command itself -----


def basicsr(*arguments, **options):
    command = [sys.executable, '-m', 'diffrwkvir_arch', *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


# Answers the commands of its arguments; what they left imported is printed last.
ANSWERING = """import sys
commands, sys.argv = sys.argv[1:], ['basicsr']
from diffrwkvir_arch.cli import main
for command in commands:
    try:
        main(command.split())
    except SystemExit as stop:
        print('exit code', stop.code)
print([name for name in ('torch', 'basicsr', 'cv2', 'numpy') if name in sys.modules])
"""


def answers(*commands):
    return subprocess.run([sys.executable, '-c', ANSWERING, *commands], capture_output=True, text=True)


def test_help_lists_every_verb_without_importing_torch():
    text = answers('-h').stdout
    assert all(f'  {verb} ' in text for verb in cli.VERBS) and text.endswith('[]\n')


def test_help_and_mistakes_of_every_verb_are_answered_without_importing_torch():
    done = answers(*(f'{verb} -h' for verb in cli.VERBS))
    assert done.stdout.count('exit code 0') == len(cli.VERBS) and done.stdout.endswith('[]\n')
    assert all(f'usage: basicsr {verb} ' in done.stdout for verb in cli.VERBS)
    done = answers(*(f'{verb} a --scael' for verb in cli.VERBS))
    assert done.stdout.count('exit code 2') == len(cli.VERBS) and done.stdout.endswith('[]\n')
    assert all(f'basicsr {verb}: error: ' in done.stderr for verb in cli.VERBS)


@pytest.mark.parametrize('arguments', [[], ['-h'], ['--version'], ['train', '-h'], ['test', '--help']])
def test_help_and_versions_come_from_anywhere(arguments, tmp_path):
    done = basicsr(*arguments, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ''
    assert ('basicsr 1.4' if arguments == ['--version'] else 'basicsr') in done.stdout


@pytest.mark.parametrize('argv, orig_argv, answer', [
    (['-m', '-h'], ['python', '-u', '-m', 'diffrwkvir_arch', '-h'], True),
    (['-m', '-h'], ['python', '-m', 'other', '-h'], False),
    (['/usr/bin/basicsr', 'train'], ['python', '/usr/bin/basicsr', 'train'], True),
    (['my_script.py', '/data/basicsr'], ['python', 'my_script.py', '/data/basicsr'], False),
    # It has its parent's arguments.
    (['/usr/bin/basicsr', 'prepare'], ['python', '-c', 'from multiprocessing', '--multiprocessing-fork'], False),
])
def test_the_command_is_known_from_what_imports_the_package(argv, orig_argv, answer):
    assert is_command(argv, orig_argv) is answer


@pytest.mark.parametrize('name, code, last', [('basicsr', 130, 'basicsr: interrupted'),
                                              ('my_script.py', -2, 'KeyboardInterrupt')])
def test_an_interrupt_of_the_imports_is_told_in_one_line_by_the_command(name, code, last):
    program = (f'import os, signal, sys; sys.argv = [{name!r}, "train", "-opt", "x.yml"]\n'
               # Started in the background, Python would ignore it.
               'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
               'class Interrupting:\n'
               '    def find_spec(self, name, *_):\n'
               '        if name == "basicsr":\n'
               '            os.kill(os.getpid(), signal.SIGINT)\n'
               'sys.meta_path.insert(0, Interrupting())\n'
               'import diffrwkvir_arch.cli\n'
               'sys.exit(diffrwkvir_arch.cli.main())')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code and lines[-1] == last and (len(lines) == 1) is (name == 'basicsr')


def test_verbs_run_in_threads(workdir, capfd):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(['restore', 'missing.png'])))
    thread.start()
    thread.join()
    assert codes == [2] and 'missing.png does not exist' in capfd.readouterr().err


def test_each_verbs_help_has_an_example(capsys):
    for verb in ('train', 'test'):
        with pytest.raises(SystemExit) as stop:
            main([verb, '-h'])
        assert stop.value.code == 0 and f'basicsr {verb} -opt ' in capsys.readouterr().out


@pytest.mark.parametrize('verb', cli.VERBS)
def test_help_fits_a_terminal(verb, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    with pytest.raises(SystemExit):
        main([verb, '-h'])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_a_closed_pipe_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, '-m', 'diffrwkvir_arch', '-h'], stdout=write, stderr=subprocess.PIPE,
                          text=True)
    os.close(write)
    assert done.returncode == 2 and done.stderr.startswith('basicsr: error: the output was closed')
    assert len(done.stderr.strip().splitlines()) == 1


def test_closed_streams_stop_nothing(tmp_path):
    Image.new('RGB', (6, 5)).save(tmp_path / 'a.png')
    command = 'exec "$0" -m diffrwkvir_arch restore a.png -m bicubic --scale 2 -o out <&- >&- 2>&-'
    done = subprocess.run(['sh', '-c', command, sys.executable], cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / 'out/a.png').exists()


def test_the_command_runs_from_the_folder_it_is_called_in(options, tmp_path):
    options['train']['total_iter'] = 1
    (tmp_path / 'own.yml').write_text(yaml.safe_dump(options))
    done = basicsr('train', '-opt', 'own.yml', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'experiments/tiny/models/net_g_latest.pth').is_file()


def torchrun(*arguments):
    """Two processes on this machine."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', *arguments]
    return subprocess.run(command, capture_output=True, text=True)


COMMAND = os.path.join(os.path.dirname(sys.executable), 'basicsr')


@pytest.mark.parametrize('start', [['-m', 'diffrwkvir_arch'], [COMMAND], ['--no-python', COMMAND]])
def test_two_processes_train_as_one_does_and_validate_and_save_once(options, workdir, write_options, start):
    options['datasets']['train']['num_worker_per_gpu'] = 1
    options['val']['val_freq'] = 3
    path = write_options(options)
    done = torchrun(*start, 'train', '-opt', path, '--launcher', 'pytorch')
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load('experiments/tiny/training_states/6.state')['iter'] == 6
    assert done.stderr.count('End of training') == 1
    assert main(['train', '-opt', path, '--force_yml', 'name=one', 'datasets:train:batch_size_per_gpu=4']) == 0
    two, one = (torch.load(f'experiments/{name}/models/net_g_6.pth')['params'] for name in ('tiny', 'one'))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('verb, advice', [('train', '--launcher pytorch'), ('restore', 'without torchrun')])
def test_two_processes_that_would_do_the_same_are_refused_before_anything_is_written(options, workdir, write_options,
                                                                                     verb, advice):
    path = write_options(options)
    done = torchrun('-m', 'diffrwkvir_arch', verb, *(['-opt', path] if verb == 'train' else [path]))
    (error, ) = (line for line in done.stderr.splitlines() if line.startswith('basicsr: error'))
    assert done.returncode != 0 and '2 ' in error and advice in error
    assert os.listdir() == ['tiny.yml']


def test_two_processes_tell_a_bad_option_once(options, workdir, write_options):
    options['train']['ema_deacy'] = 1
    done = torchrun('-m', 'diffrwkvir_arch', 'train', '-opt', write_options(options), '--launcher', 'pytorch')
    assert done.returncode != 0 and done.stderr.count('basicsr: error: unknown option') == 1


def test_two_processes_answer_a_mistaken_command_once():
    done = torchrun('-m', 'diffrwkvir_arch', 'train')
    assert done.returncode != 0 and done.stderr.count('usage: ') == done.stderr.count('basicsr train: error: ') == 1


def test_the_process_that_meets_an_error_tells_it_and_the_others_do_not_complain_of_its_leave(
        options, workdir, write_options, image_folders):
    # Of six images a batch of two each: one process reads it.
    (image_folders[0] / '03.png').write_bytes(b'')
    options['datasets']['train']['dataset_enlarge_ratio'] = 2
    done = torchrun('-m', 'diffrwkvir_arch', 'train', '-opt', write_options(options), '--launcher', 'pytorch')
    assert done.returncode != 0 and done.stderr.count('03.png: the image file is empty') == 1
    assert '[rank' not in done.stderr
