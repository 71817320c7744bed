"""Reads every item of the datasets of option files before a training has to: unpaired, misfit, damaged images."""
import contextlib
import functools
import os

from tqdm import tqdm

from diffrwkvir_arch.errors import InputError, one_line
from diffrwkvir_arch.option_datasets import check_dataset, check_places, expanded_places
from diffrwkvir_arch.option_sections import look_up, require
from diffrwkvir_arch.toolbox.logs import warn
from diffrwkvir_arch.toolbox.options import find_option_file, load_option_file

from .workers import run_jobs

SHOWN = 5


def check_datasets_of(files, workers):
    """Prints a line for every dataset of option files, and the first faults of each.

    Args:
        files (list of str): Paths, or names of shipped option files.
        workers (int): Processes.

    Raises:
        InputError: A file cannot be read, or datasets have faults.
    """
    faulty = []
    for file in files:
        path = find_option_file(file, '--check')
        opt = load_option_file(path)
        require(opt, '', ['datasets'])
        require(opt['datasets'], 'datasets', [])
        for phase in opt['datasets']:
            count, faults = faults_of(opt, phase, workers)
            label = f'{path}: datasets.{phase}'
            print(f'{label}: {count} items, {len(faults)} of them with faults' if faults and count else
                  f'{label}: cannot be used' if faults else f'{label}: {count} items, all can be used', flush=True)
            for fault in faults[:SHOWN]:
                print(f'  {fault}')
            if len(faults) > SHOWN:
                print(f'  and {len(faults) - SHOWN} more')
            if faults:
                faulty.append(f'{os.path.basename(path)} datasets.{phase}')
    if faulty:
        raise InputError(f'{len(faulty)} of the datasets cannot be used as they are: {", ".join(faulty)}')


def faults_of(opt, phase, workers):
    """-> number of items, 0 where the dataset cannot even be opened; what is wrong with it, one line each."""
    section = opt['datasets'][phase]
    path = f'datasets.{phase}'
    try:
        require(section, path, ['type'])
        check_dataset(opt, path, section, warn)
        check_places({'datasets': {phase: section}})
        dataset = look_up('dataset', section['type'], f'{path}.type')(
            {**section, **expanded_places(section), 'phase': phase.split('_')[0], 'scale': opt.get('scale') or 1})
    except InputError as error:
        return 0, [str(error)]
    faults = {}
    bar = tqdm(total=len(dataset), desc=path, unit='image')
    task = functools.partial(fault_of_item, dataset)
    with bar, contextlib.closing(run_jobs(task, range(len(dataset)), workers)) as done:
        for index, fault in done:
            bar.update()
            if fault:
                faults[index] = fault
    return len(dataset), [faults[index] for index in sorted(faults)]


def fault_of_item(dataset, index):
    """What is wrong with an item, in one line, or None."""
    try:
        dataset[index]
    except InputError as error:
        return str(error)
    except Exception as error:
        # Third parties' datasets fail in their own ways.
        return f'item {index}: {one_line(error)}'
    return None
