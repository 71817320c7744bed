"""`basicsr prepare --check`: sound datasets pass, and every fault is named with its file and its remedy."""
import os
from pathlib import Path

import yaml
from prepare_cases import SMALL, names, refused, run, save


def check_file(gt, lq, **options):
    """Writes check.yml with a training and a test set; -> arguments of run."""
    section = {'type': 'PairedImageDataset', 'dataroot_gt': gt, 'dataroot_lq': lq, **options}
    Path('check.yml').write_text(yaml.safe_dump({'scale': 2, 'datasets': {
        'train': {**section, 'gt_size': 16, 'batch_size_per_gpu': 1}, 'val': section}}))
    return ['--check', 'check.yml']


def test_a_sound_dataset_passes_the_check(photos, capsys):
    run('my photos', '-o', 'datasets/DF2K', *SMALL, '--scales', 2, '--lmdb')
    capsys.readouterr()
    for ending in ('', '.lmdb'):
        assert run(*check_file(f'datasets/DF2K/DF2K_HR_sub{ending}', f'datasets/DF2K/DF2K_bicx2_sub{ending}')) == 0
        count = len(names('datasets/DF2K/DF2K_HR_sub'))
        assert f'datasets.train: {count} items, all can be used\n' in capsys.readouterr().out


def test_the_check_names_images_that_do_not_pair_and_the_template_that_would(photos, capsys):
    run('my photos', '-o', 'set', '--test', '--scales', 2)
    os.rename('set/LRbicx2/a.png', 'set/LRbicx2/z.png')
    assert 'check.yml datasets.train, check.yml datasets.val' in refused(*check_file('set/GTmod12', 'set/LRbicx2'))
    assert 'GT without LQ: a.png; LQ without GT: z.png' in capsys.readouterr().out
    for name, new in (('z', 'ax2'), ('b', 'bx2'), ('c', 'cx2')):
        os.rename(f'set/LRbicx2/{name}.png', f'set/LRbicx2/{new}.png')
    refused(*check_file('set/GTmod12', 'set/LRbicx2'))
    assert "filename_tmpl: '{}x2' would pair them" in capsys.readouterr().out
    assert run(*check_file('set/GTmod12', 'set/LRbicx2', filename_tmpl='{}x2')) == 0


def test_the_check_names_misfits_and_damaged_files_and_reads_on(photos, capsys):
    run('my photos', '-o', 'set', '--test', '--scales', 2)
    save('set/LRbicx2/a.png', photos['a'][:40, :40])
    Path('set/GTmod12/b.png').write_bytes(Path('set/GTmod12/b.png').read_bytes()[:200])
    message = refused(*check_file('set/GTmod12', 'set/LRbicx2'), '--workers', 2)
    assert message.startswith('2 of the datasets cannot be used as they are')
    out = capsys.readouterr().out
    assert 'datasets.val: 3 items, 2 of them with faults' in out
    assert 'LQ set/LRbicx2/a.png is 40x40, GT set/GTmod12/a.png is 72x96' in out and 'b.png: not an image' in out


def test_the_check_tells_of_folders_that_are_missing(workdir, capsys):
    refused(*check_file('nowhere', 'nowhere'))
    assert 'datasets.train.dataroot_gt: nowhere does not exist' in capsys.readouterr().out
    assert refused('--check', 'nowhere.yml').startswith('--check: nowhere.yml does not exist')


def test_the_check_finds_a_list_in_the_users_home(photos, workdir, monkeypatch, capsys):
    run('my photos', '-o', 'set', '--test', '--scales', 2)
    Path('list.txt').write_text('a.png\n')
    monkeypatch.setenv('HOME', str(workdir))
    assert run(*check_file('~/set/GTmod12', '~/set/LRbicx2', meta_info_file='~/list.txt')) == 0
    assert 'datasets.train: 1 items, all can be used' in capsys.readouterr().out
