"""Runs `basicsr train` and `basicsr test` as commands of their own, one after the other, behind a progress bar."""
import re
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from diffrwkvir_arch.errors import InputError

ITERATION = re.compile(r'iter:\s*([\d,]+),.*?(l_pix: \S+)')
ERROR = re.compile(r'^basicsr: error: (.*)$', re.MULTILINE)


def basicsr(verb, option_file, root, force=(), iterations=None, title=''):
    """Runs `basicsr VERB -opt OPTION_FILE --force_yml FORCE...` in the folder `root`.

    The name of a shipped option file is enough. A process of its own, because BasicSR reads sys.argv and keeps one log
    file a process. Its log lines drive a progress bar where `iterations` says how many there will be; all of its output
    goes to root/results/VERB_NAME.log.

    Raises:
        InputError: It refused its input; the message is its own.
        RuntimeError: It failed otherwise; the message is the end of its output.
    """
    command = [sys.executable, '-m', 'diffrwkvir_arch', verb, '-opt', str(option_file)]
    if force:
        command += ['--force_yml', *force]
    log_file = Path(root, 'results', f'{verb}_{Path(option_file).stem}.log')
    log_file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    bar_format = None if iterations else '{desc}: {elapsed}'
    with log_file.open('w', encoding='utf-8') as log, \
            tqdm(total=iterations, desc=title or verb, unit='it', bar_format=bar_format) as bar, \
            subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             encoding='utf-8', errors='replace') as process:
        try:
            for line in process.stdout:
                log.write(line)
                lines.append(line)
                match = ITERATION.search(line)
                if match and iterations:
                    bar.update(int(match[1].replace(',', '')) - bar.n)
                    bar.set_postfix_str(match[2])
        except KeyboardInterrupt:
            # Ctrl-C reaches the command as well, which saves before it ends.
            log.writelines(process.stdout)
            raise
    if process.returncode:
        output = ''.join(lines)
        refused = ERROR.findall(output)
        if refused:
            raise InputError(f'basicsr {verb} -opt {option_file}: {refused[-1]}')
        raise RuntimeError(f'basicsr {verb} -opt {option_file} failed (whole output: {log_file}):\n{output[-2000:]}')
