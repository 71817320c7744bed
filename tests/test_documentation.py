"""What the documentation names is there: links, files, commands, defaults; its Python runs."""
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from basicsr.utils.registry import ARCH_REGISTRY

from diffrwkvir_arch.cli import VERBS, main

ROOT = Path(__file__).parent.parent
# Reports of benchmarks name the files of whoever ran them.
PAGES = [ROOT / page for page in ('README.md', 'docs/datasets.md', 'docs/measured.md', 'kernels/README.md',
                                  'diffrwkvir_arch/weights/README.md')]
README = PAGES[0].read_text(encoding='utf-8')

pages = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def expand(text):
    """What a shell makes of {a,b}."""
    braces = re.search(r'\{([^{}]*)\}', text)
    if not braces:
        return [text]
    return [name for part in braces[1].split(',')
            for name in expand(text[:braces.start()] + part.strip() + text[braces.end():])]


def anchors(page):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
        if not link.startswith('http'):
            file, _, anchor = link.partition('#')
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pages
def test_the_option_files_and_programs_that_are_named_are_there(page):
    text = page.read_text(encoding='utf-8')
    options = re.findall(r'\b(?:options/)?(?:\{train,test\}|train|test)_[\w{},-]+\.yml', text)
    programs = re.findall(r'(?:kernels/)?benchmarks/\w+\.py', text)
    parts = [name if name.startswith('kernels') else f'diffrwkvir_arch/{name.removeprefix("diffrwkvir_arch/")}'
             for name in re.findall(r'`((?:kernels|diffrwkvir_arch|archs|models)/[\w/]+\.py)`', text)]
    for name in [*(f'options/{name.removeprefix("options/")}' for name in options), *programs, *parts]:
        for path in expand(name):
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize('verb', VERBS)
def test_the_flags_of_commands_are_the_commands_own(verb, capsys):
    text = '\n'.join(page.read_text(encoding='utf-8') for page in PAGES).replace('\\\n', ' ')
    flags = {flag for line in re.findall(rf'(?:basicsr|diffrwkvir_arch) +{verb} ([^\n`]*)', text)
             for flag in re.findall(r'(?<!\S)--?[a-z][\w-]*', line.partition('#')[0])}
    try:
        main([verb, '-h'])
    except SystemExit:
        pass
    described = set(re.findall(r'(?<![\w-])--?[a-z][\w-]*', capsys.readouterr().out))
    assert flags <= described


@pages
def test_python_that_is_shown_runs(page, tmp_path):
    for code in re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL):
        subprocess.run([sys.executable, '-c', code], check=True, cwd=tmp_path)


def test_the_table_of_switches_begins_with_the_defaults():
    table = README.partition('| key |')[2].partition('\n\n')[0]
    defaults = inspect.signature(ARCH_REGISTRY.get('DiffRWKVIRS2')).parameters
    for keys, values in re.findall(r'^\| (`.*?`) \| (.*?) \|', table, re.MULTILINE):
        keys = re.findall(r'`(\w+)`', keys)
        # One key has alternatives, several have one value each.
        values = [yaml.safe_load(re.match(r'`?(\w+)', value)[1]) for value in values.split(', ')][:len(keys)]
        assert values == [defaults[key].default for key in keys]
