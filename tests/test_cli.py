"""The `basicsr` command itself: help, versions, and the process that it is."""
import os
import subprocess
import sys
import threading

import pytest
import yaml
from PIL import Image

from cli_cases import error_line
from diffrwkvir_arch import cli
from diffrwkvir_arch.cli import is_command, main


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


def test_an_unknown_verb_is_answered_with_the_nearest(capfd):
    line = error_line((main(['trian']), capfd.readouterr().err))
    assert "unknown verb 'trian' (did you mean 'train'?)" in line
