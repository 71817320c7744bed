"""Imports point one way: tools, models -> archs -> state_evolution; parts stay free of what they do not need."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / 'diffrwkvir_arch'
# Modules that import nothing of the plugin but each other.
LEAVES = {f'diffrwkvir_arch.{name}' for name in ('bicubic', 'device', 'draws', 'errors', 'registration', 'pretrained',
                                               'lpips_network', 'self_ensemble', 'signatures', 'tiling', 'values')}


def imports(path):
    """The dotted names that a file imports anywhere in it; relative ones made absolute."""
    package = list(path.relative_to(ROOT).with_suffix('').parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            module = '.'.join(base + ([node.module] if node.module else []))
            # `from package import module` may name a module.
            found.update([module, *(f'{module}.{alias.name}' for alias in node.names)])
    return found


def part(path):
    """The folder of the plugin that a file belongs to, however deep it lies in it."""
    return path.relative_to(PLUGIN).parts[0]


def within(names, *packages):
    """Those names that lie in one of the packages."""
    return {name for name in names for package in packages if name == package or name.startswith(f'{package}.')}


def files(folder):
    return sorted(path for path in folder.rglob('*.py'))


def siblings(names, own):
    """What is imported of the plugin beyond leaves and the own subpackage."""
    inside = within(names, 'diffrwkvir_arch') - {'diffrwkvir_arch'}
    return inside - within(inside, *LEAVES, f'diffrwkvir_arch.{own}')


@pytest.mark.parametrize('path', files(PLUGIN / 'archs'), ids=lambda path: path.name)
def test_archs_import_the_operator_and_no_other_part_of_the_plugin(path):
    names = imports(path)
    assert not siblings(names, 'archs')
    allowed = {'basicsr.utils.registry'} if path.name.endswith('_arch.py') else set()
    assert within(names, 'basicsr') <= within(names, *allowed)


@pytest.mark.parametrize('folder', ['losses', 'metrics', 'data'])
def test_losses_metrics_and_data_import_no_sibling(folder):
    for path in files(PLUGIN / folder):
        assert not siblings(imports(path), folder), path


def test_models_import_no_tools_and_nothing_imports_models():
    for path in files(PLUGIN):
        names = imports(path)
        if part(path) not in ('models', 'tools') and path != PLUGIN / '__init__.py':
            assert not within(names, 'diffrwkvir_arch.models'), path
        if part(path) != 'tools':
            assert not within(names, 'diffrwkvir_arch.tools'), path


def test_the_operator_knows_neither_the_plugin_nor_basicsr():
    for path in files(ROOT / 'kernels'):
        assert not within(imports(path), 'diffrwkvir_arch', 'basicsr'), path


def test_only_the_toolbox_replaces_parts_of_basicsr():
    for path in files(PLUGIN):
        assert path.parent.name == 'toolbox' or 'diffrwkvir_arch.toolbox.patching' not in imports(path), path


def test_the_command_imports_nothing_heavy_before_a_verb_runs():
    for name in ('__init__.py', 'cli.py', 'errors.py', 'toolbox/__init__.py', 'toolbox/arguments.py'):
        path = PLUGIN / name
        tree = ast.parse(path.read_text(encoding='utf-8'))
        top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        top |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not within(top, 'torch', 'basicsr', 'numpy', 'cv2', 'yaml'), path


def test_every_folder_of_the_plugin_is_a_package_that_gets_installed():
    assert {path.parent for path in files(PLUGIN)} == {path.parent for path in PLUGIN.rglob('__init__.py')}
