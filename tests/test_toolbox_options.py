"""Importing BasicSR, its registries and its option files: what upstream does wrong, and that the mend does it right."""
import argparse
import os
import subprocess
import sys

import pytest
import yaml
from basicsr.utils import options as basicsr_options
from basicsr.utils.registry import Registry

from diffrwkvir_arch import toolbox
from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox import options as toolbox_options
from diffrwkvir_arch.toolbox.arguments import drop_local_rank
from diffrwkvir_arch.toolbox.options import find_option_file, force_option, load_option_file, parse_value, usable_gpus


def run_python(code):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


def test_the_plugin_makes_basicsr_importable_and_users_scripts_work():
    # The real module is hidden, as on torchvision>=0.17, so that this holds with any version.
    hide = "import sys; sys.modules['torchvision.transforms.functional_tensor'] = None; "
    assert 'functional_tensor' in run_python(hide + 'import basicsr').stderr
    mended = run_python('import diffrwkvir_arch\n'
                        'from basicsr.train import train_pipeline, load_resume_state\n'
                        'from basicsr.data.degradations import rgb_to_grayscale\n'
                        'from basicsr.utils.registry import ARCH_REGISTRY as A, MODEL_REGISTRY as M\n'
                        'from basicsr.utils.registry import DATASET_REGISTRY as D\n'
                        'print("SwinIR" in A, "DiffRWKVIRS2" in A, "RestorationModel" in M,\n'
                        '      D.get("PairedImageDataset").__module__, load_resume_state.__module__)')
    assert mended.stdout.split() == [
        'True', 'True', 'True', 'diffrwkvir_arch.data.paired_image_dataset', 'diffrwkvir_arch.toolbox.resuming'
    ], mended.stderr


def test_scipys_removed_module_is_provided(monkeypatch):
    import scipy.ndimage
    from diffrwkvir_arch.toolbox.imports import mend_imports
    monkeypatch.setattr(scipy.ndimage, 'filters', scipy.ndimage.filters)
    monkeypatch.setitem(sys.modules, 'scipy.ndimage.filters', None)
    with pytest.raises(ModuleNotFoundError):
        import scipy.ndimage.filters
    mend_imports()
    from scipy.ndimage.filters import convolve
    assert convolve is scipy.ndimage.convolve


def test_mending_twice_changes_nothing():
    before = basicsr_options.parse_options
    toolbox.mend()
    assert basicsr_options.parse_options is before and not hasattr(before.upstream, 'upstream')


def test_every_module_gets_the_mended_function_even_where_it_was_imported_by_name():
    import basicsr.test
    import basicsr.train
    assert basicsr.train.parse_options is basicsr.test.parse_options is basicsr_options.parse_options


def test_an_unknown_name_is_answered_with_what_exists(capsys):
    registry = Registry('arch')
    registry._obj_map.update(SwinIR=1, EDSR_basicsr=2)
    with pytest.raises(KeyError):
        Registry.get.upstream(registry, 'SwinRI')
    with pytest.raises(InputError, match=r"unknown arch 'SwinRI' \(did you mean 'SwinIR'\?\); "
                       'registered: EDSR_basicsr, SwinIR'):
        registry.get('SwinRI')
    capsys.readouterr()
    assert registry.get('SwinIR') == 1 and registry.get('EDSR') == 2
    assert capsys.readouterr().out == ''


def test_a_module_imported_twice_registers_twice_but_two_classes_of_one_name_do_not():
    registry = Registry('arch')

    def make(qualname):
        return type('Net', (), {'__module__': 'some.module', '__qualname__': qualname})

    registry.register(make('Net'))
    with pytest.raises(AssertionError):
        Registry._do_register.upstream(registry, 'Net', make('Net'))
    registry.register(make('Net'))
    with pytest.raises(AssertionError):
        registry.register(make('Other'))


@pytest.mark.parametrize('text, value', [('1e-4', 1e-4), ('2E5', 2e5), ('-3e2', -300.), ('.5e1', 5.), ('1.0e-4', 1e-4),
                                         ('12', 12), ('x1e4', 'x1e4'), ('1e', '1e')])
def test_exponents_are_numbers(text, value):
    loader = basicsr_options.ordered_yaml()[0]
    read = yaml.load(f'lr: {text}', Loader=loader)['lr']
    assert read == value and type(read) is type(value)
    if text == '1e-4':
        assert yaml.load(f'lr: {text}', Loader=basicsr_options.ordered_yaml.upstream()[0])['lr'] == '1e-4'


@pytest.mark.parametrize('text, value', [
    ('1e-4', 1e-4), ('-1', -1), ('3', 3), ('0.5', .5), ('!!float 2e3', 2000.), ('true', True), ('False', False),
    ('yes', True), ('No', False), ('on', True), ('off', False),
    ('~', None), ('none', None), ('[1, 2e-1, a]', [1, .2, 'a']), ('[[1,2],[3]]', [[1, 2], [3]]), ('a=b', 'a=b'),
    ('{}x4', '{}x4'), ('{}', '{}'), ('{type: jpeg, quality: [10, 1e1]}', {'type': 'jpeg', 'quality': [10, 10.]}),
    ('{type: jpeg', '{type: jpeg'), ('{day: 2020-99-99}', '{day: 2020-99-99}'), ('x.pth', 'x.pth'), ('', '')
])
def test_values_of_the_command_line_are_read_as_in_a_file(text, value):
    read = parse_value(text)
    assert read == value and type(read) is type(value)


def test_upstream_reads_numbers_of_the_command_line_as_text():
    read = basicsr_options._postprocess_yml_value
    assert read('1e-4') == '1e-4' and read('-1') == '-1'


def test_lists_of_the_command_line_are_not_run_as_python():
    assert parse_value('[__import__("os").getpid()]') == ['__import__("os").getpid()']
    for text in ('[1, 2', '[2020-99-99]'):
        with pytest.raises(InputError, match='is not a list'):
            parse_value(text)


def test_forced_options_reach_their_section():
    opt = {'train': {'optim_g': {'lr': 1}}, 'path': {}}
    force_option(opt, 'train:optim_g:lr=2e-4')
    force_option(opt, 'path:pretrain_network_g=/a=b.pth')
    assert opt == {'train': {'optim_g': {'lr': 2e-4}}, 'path': {'pretrain_network_g': '/a=b.pth'}}
    with pytest.raises(InputError, match=r"no section 'trian' \(did you mean 'train'\?\)"):
        force_option(opt, 'trian:ema_decay=0')
    with pytest.raises(InputError, match="no section 'train:optim_g:lr'"):
        force_option(opt, 'train:optim_g:lr:x=0')
    with pytest.raises(InputError, match='write KEY=VALUE'):
        force_option(opt, 'train')


def parse(monkeypatch, path, *flags, is_train=True, function=basicsr_options.parse_options):
    monkeypatch.setattr(sys, 'argv', ['basicsr train', '-opt', path, *flags])
    return function('/somewhere', is_train)[0]


def test_a_misspelt_forced_option_is_refused(options, write_options, monkeypatch):
    path = write_options(options)
    with pytest.raises(InputError, match=r"unknown option 'train.ema_deacy' \(did you mean 'ema_decay'\?\)"):
        parse(monkeypatch, path, '--force_yml', 'train:ema_deacy=0.5')
    upstream = basicsr_options.parse_options.upstream
    opt = parse(monkeypatch, path, '--force_yml', 'train:ema_deacy=0.5', function=upstream)
    assert opt['train']['ema_deacy'] == 0.5


def test_forced_options_and_flags_arrive(options, write_options, monkeypatch):
    flags = ('--auto_resume', '--force_yml', 'train:total_iter=1e1', 'manual_seed=5')
    opt = parse(monkeypatch, write_options(options), *flags)
    assert opt['train']['total_iter'] == 10 and opt['manual_seed'] == 5 and opt['auto_resume'] is True
    assert opt['path']['models'] == '/somewhere/experiments/tiny/models'
    assert opt['datasets']['train']['phase'] == 'train' and opt['datasets']['val']['scale'] == 2
    assert (opt['dist'], opt['rank'], opt['world_size']) == (False, 0, 1)


def test_a_data_set_is_taken_out_by_none(options, write_options, monkeypatch):
    options['datasets']['val_2'] = {**options['datasets']['val'], 'name': 'more'}
    path = write_options(options)
    assert list(parse(monkeypatch, path, '--force_yml', 'datasets:val_2=~')['datasets']) == ['train', 'val']
    with pytest.raises(InputError, match='missing option: datasets.train'):
        parse(monkeypatch, path, '--force_yml', 'datasets:train=~')


def test_sets_that_are_not_there_are_told_with_the_flag_that_leaves_them_out(monkeypatch, options, write_options):
    val = options['datasets']['val']
    for name in ('val_2', 'val_3'):
        options['datasets'][name] = {**val, 'name': name, 'dataroot_gt': 'nowhere'}
    path, flag = write_options(options), ('--force_yml', 'datasets:val_2=~', 'datasets:val_3=~')
    told = r'datasets\.val_2\.dataroot_gt: nowhere .*; the others alone: ' + ' '.join(flag)
    with pytest.raises(InputError, match=told):
        parse(monkeypatch, path)
    assert list(parse(monkeypatch, path, *flag)['datasets']) == ['train', 'val']
    options['datasets']['train']['dataroot_gt'] = 'nowhere'
    with pytest.raises(InputError, match=r'datasets\.train\.dataroot_gt: nowhere does not exist \(seen from [^;]*$'):
        parse(monkeypatch, write_options(options))


@pytest.mark.parametrize('file, told', [('train_DiffRWKVIR_S1_x4.yml', 'docs/datasets.md says where its images come'),
                                        ('train_DiffRWKVIR-tiny_S1_demo.yml', 'basicsr demo makes it')])
def test_where_the_data_of_shipped_option_files_comes_from_is_told(workdir, monkeypatch, file, told):
    with pytest.raises(InputError, match=rf'dataroot_gt: datasets/\S+ does not exist \(seen from [^;]*\); {told}'):
        parse(monkeypatch, file)



def test_upstream_stumbles_over_an_equals_sign_in_a_value(options, write_options, monkeypatch):
    path = write_options(options)
    flags = ('--force_yml', 'path:resume_state=/x=y.state')
    with pytest.raises(ValueError, match='too many values'):
        parse(monkeypatch, path, *flags, function=basicsr_options.parse_options.upstream)
    assert parse(monkeypatch, path, *flags)['path']['resume_state'] == '/x=y.state'


def test_debug_validates_often_under_a_name_of_its_own(options, write_options, monkeypatch):
    opt = parse(monkeypatch, write_options(options), '--debug')
    assert opt['name'] == 'debug_tiny' and opt['val']['val_freq'] == 8 and opt['logger']['print_freq'] == 1


def test_a_file_without_val_path_and_num_gpu_parses(options, write_options, monkeypatch):
    for key in ('val', 'path', 'num_gpu'):
        del options[key]
    path = write_options(options)
    with pytest.raises(KeyError):
        parse(monkeypatch, path, function=basicsr_options.parse_options.upstream)
    assert parse(monkeypatch, path)['val']['save_img'] is False


def test_more_gpus_than_there_are_become_those_there_are(monkeypatch):
    warnings = []
    monkeypatch.setattr(toolbox_options, 'warn', warnings.append)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    assert usable_gpus(1) == 0 and 'using the CPU' in warnings[0]
    assert usable_gpus('auto') == 0 and usable_gpus(0) == 0 and len(warnings) == 1
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    assert usable_gpus('auto') == 2 and usable_gpus(1) == 1
    assert usable_gpus(8) == 2 and 'using 2' in warnings[1]
    assert usable_gpus(8, one_each=True) == 8


def test_what_several_gpus_make_of_the_batch_is_told(options, write_options, monkeypatch):
    warnings = []
    monkeypatch.setattr(toolbox_options, 'warn', warnings.append)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    options['num_gpu'], options['datasets']['train']['batch_size_per_gpu'] = 'auto', 16
    path = write_options(options)
    assert parse(monkeypatch, path)['num_gpu'] == 4
    assert warnings == ['num_gpu: 4 GPUs x datasets.train.batch_size_per_gpu: 16 are 64 images a step; num_gpu: 1 '
                        'keeps to 16, batch_size_per_gpu: 4 shares them out']
    assert parse(monkeypatch, path, '--force_yml', 'num_gpu=1')['num_gpu'] == len(warnings) == 1


@pytest.mark.parametrize('train', [{'amp': 'bf16'}, {'compile': True}], ids=str)
@pytest.mark.parametrize('num_gpu', ['auto', 2])
def test_what_goes_wrong_in_threads_is_refused(options, write_options, monkeypatch, train, num_gpu):
    options.update(model_type='RestorationModel', num_gpu=num_gpu)
    options['train'].update(train)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    message = f'train.{next(iter(train))} does not work on 2 GPUs of one process; start one a GPU, torchrun --nproc_per'
    with pytest.raises(InputError, match=message):
        parse(monkeypatch, write_options(options))
    assert parse(monkeypatch, write_options({**options, 'num_gpu': 1}))['num_gpu'] == 1


@pytest.mark.parametrize('text, message', [
    ('a: [1, 2\nb: 3\n', r'bad\.yml, line 2: not valid YAML'),
    ('a: 1\n\tb: 3\n', r'bad\.yml, line 2: not valid YAML'),
    ('a: *nothing\n', r'bad\.yml, line 1: not valid YAML'),
    ('a: !!float x\n', r'bad\.yml: not valid YAML'),
    ('a: !!python/object/apply:os.getpid []\n', r'bad\.yml, line 1: not valid YAML'),
    ('just text\n', r'bad\.yml: an option file holds'),
    ('', r'bad\.yml: an option file holds .* nothing'),
])
def test_bad_yaml_is_told_in_one_line_with_file_and_line(tmp_path, text, message):
    path = tmp_path / 'bad.yml'
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_option_file(path)
    assert '\n' not in str(error.value)


def test_option_files_are_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / 'x.yml'
    path.write_bytes('\ufeffname: Bäume  # 树\n'.encode())
    assert load_option_file(path) == {'name': 'Bäume'}
    path.write_bytes('name: Bäume\n'.encode('latin-1'))
    with pytest.raises(InputError, match='not UTF-8'):
        load_option_file(path)


def test_the_copy_of_the_option_file_is_utf8_too(tmp_path):
    source, target = tmp_path / 'x.yml', tmp_path / 'experiment'
    target.mkdir()
    source.write_text('name: Bäume\n', encoding='utf-8')
    code = ('import sys, diffrwkvir_arch; from basicsr.utils import options as o; '
            'getattr(o.copy_opt_file, sys.argv[3], o.copy_opt_file)(sys.argv[1], sys.argv[2])')

    def run(which):
        return subprocess.run([sys.executable, '-c', code, source, target, which], capture_output=True, text=True,
                              env={'PATH': '', 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'})

    assert 'UnicodeDecodeError' in run('upstream').stderr
    assert run('mended').returncode == 0
    assert 'name: Bäume' in (target / 'x.yml').read_text(encoding='utf-8')


def test_an_option_given_twice_is_told(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(toolbox_options, 'warn', warnings.append)
    path = tmp_path / 'x.yml'
    path.write_text('a: 1\nb: {c: 1}\na: 2\n')
    assert load_option_file(path)['a'] == 2
    assert "'a' is given in line 1 and again in line 3" in warnings[0] and len(warnings) == 1


def test_a_shipped_option_file_is_found_by_its_name(workdir, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(toolbox_options, 'warn', warnings.append)
    shipped = tmp_path / 'shipped'
    shipped.mkdir()
    (shipped / 'train_x.yml').write_text('a: 1')
    monkeypatch.setattr(toolbox_options, 'SHIPPED_OPTIONS', shipped)
    assert find_option_file('options/train_x.yml') == str(shipped / 'train_x.yml')
    assert 'options/train_x.yml does not exist here; using the shipped' in warnings[0]
    (workdir / 'train_x.yml').write_text('a: 2')
    assert find_option_file('train_x.yml') == 'train_x.yml'
    with pytest.raises(InputError, match=r"train_y\.yml does not exist \(did you mean 'train_x\.yml'\?\)"):
        find_option_file('options/train_y.yml')
    with pytest.raises(InputError, match='is a folder'):
        find_option_file('.')


def test_the_checkouts_own_option_files_are_found(workdir):
    assert find_option_file('options/train_DiffRWKVIR_S1_x4.yml').endswith('options/train_DiffRWKVIR_S1_x4.yml')


def test_local_rank_is_dropped_wherever_it_stands(options, write_options, monkeypatch):
    assert drop_local_rank(['--local-rank=1', 'train', '--local_rank', '2', '-opt', 'x', '--local_rank=3']) == \
        ['train', '-opt', 'x']
    path = write_options(options)
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        parse(monkeypatch, path, '--local-rank=0', function=basicsr_options.parse_options.upstream)
    assert parse(monkeypatch, path, '--local-rank=0')['name'] == 'tiny'


def test_a_run_keeps_the_options_that_it_had_and_can_be_repeated_from_them(options, write_options, workdir):
    assert main(['train', '-opt', write_options(options), '--force_yml', 'train:total_iter=2']) == 0
    copied = 'experiments/tiny/tiny.yml'
    assert load_option_file(copied)['train']['total_iter'] == 2
    # The earlier run is put away, with the file that is read.
    assert main(['train', '-opt', copied]) == 0
    assert load_option_file(copied)['train']['total_iter'] == 2 and len(os.listdir('experiments')) == 2
