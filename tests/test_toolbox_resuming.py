"""Training states: what they hold, which one is taken up again, and that the run goes on as if it had never stopped."""
import copy
import os

import basicsr.train
import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from checkpoint_cases import assert_same, network_file

from diffrwkvir_arch.cli import main
from diffrwkvir_arch.errors import InputError
from diffrwkvir_arch.toolbox import resuming


def test_upstream_cannot_resume_without_cuda_and_archives_what_it_should_resume(opt, model, tmp_path, monkeypatch):
    model.save(0, 3)
    opt['path']['resume_state'] = os.path.join(opt['path']['training_states'], '3.state')
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            basicsr.train.load_resume_state.upstream(copy.deepcopy(opt))
    assert basicsr.train.load_resume_state(copy.deepcopy(opt))['iter'] == 3
    # From any folder but root_path upstream finds no state, and train_pipeline then archives the run.
    monkeypatch.chdir(tmp_path.parent)
    opt['auto_resume'] = True
    assert basicsr.train.load_resume_state.upstream(copy.deepcopy(opt)) is None
    assert basicsr.train.load_resume_state(copy.deepcopy(opt))['iter'] == 3


def test_the_newest_usable_state_is_taken(opt, model, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(resuming, 'warn', warnings.append)
    for iteration in (3, 6, 9, 12):
        model.save(0, iteration)
    states = opt['path']['training_states']
    content = open(os.path.join(states, '12.state'), 'rb').read()
    open(os.path.join(states, '12.state'), 'wb').write(content[:len(content) // 2])
    os.remove(network_file(opt, 'net_g_9.pth'))
    open(network_file(opt, 'net_g_6.pth'), 'wb').write(b'cut')
    for name in ('latest.state', '99.state.tmp', 'notes.txt'):
        open(os.path.join(states, name), 'w').write('x')
    opt['auto_resume'] = True
    state = basicsr.train.load_resume_state(opt)
    assert state['iter'] == 3
    assert opt['path']['resume_state'] == os.path.join(states, '3.state')
    assert opt['path']['pretrain_network_g'] == network_file(opt, 'net_g_3.pth')
    assert len(warnings) == 3
    assert all(f'/{number}.state' in warning for number, warning in zip((12, 9, 6), warnings))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        basicsr.train.load_resume_state.upstream(opt)


def test_without_a_state_training_starts_afresh_with_a_warning(opt, monkeypatch):
    warnings = []
    monkeypatch.setattr(resuming, 'warn', warnings.append)
    opt['auto_resume'] = True
    assert basicsr.train.load_resume_state(opt) is None
    assert 'no training state' in warnings[0]


def test_states_of_which_none_can_be_used_are_not_put_away_for_a_new_run(opt, model):
    model.save(0, 3)
    model.save(0, 6)
    for number in (3, 6):
        open(network_file(opt, f'net_g_{number}.pth'), 'wb').write(b'cut')
    opt['auto_resume'] = True
    with pytest.raises(InputError, match=r'none of .* can be used, the newest because: .*net_g_6\.pth is damaged'):
        basicsr.train.load_resume_state(opt)


def test_networks_that_are_not_saved_may_be_left_out_of_resuming(opt, model):
    model.save(0, 3)
    opt.update(auto_resume=True, network_teacher={'type': 'EDSR'})
    with pytest.raises(InputError, match='net_teacher_3.pth does not exist'):
        basicsr.train.load_resume_state(copy.deepcopy(opt))
    opt['path'].update(ignore_resume_networks=['network_teacher'], pretrain_network_teacher='teacher.pth',
                       param_key_teacher='params_ema', param_key_g='params_ema')
    resumed = copy.deepcopy(opt)
    assert basicsr.train.load_resume_state(resumed)['iter'] == 3
    assert resumed['path']['pretrain_network_teacher'] == 'teacher.pth'
    # Training goes on with the raw weights of what it trains, not of its teacher.
    assert resumed['path']['param_key_teacher'] == 'params_ema' and resumed['path']['param_key_g'] == 'params'


@pytest.mark.parametrize('content, message', [(None, 'does not exist'), (b'cut', 'is damaged'),
                                              ({'a': 1}, 'is not a training state')])
def test_an_explicit_state_that_cannot_be_used_is_named_with_its_option(opt, tmp_path, content, message):
    path = tmp_path / '7.state'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    opt['path']['resume_state'] = str(path)
    with pytest.raises(InputError, match=rf'path\.resume_state: .*7\.state {message}'):
        basicsr.train.load_resume_state(opt)


def test_an_explicit_state_brings_its_own_networks(opt, model, tmp_path):
    model.save(0, 3)
    renamed = copy.deepcopy(opt)
    for key in ('experiments_root', 'models', 'training_states', 'visualization'):
        renamed['path'][key] = opt['path'][key].replace('/tiny', '/other')
    renamed['path']['resume_state'] = os.path.join(opt['path']['training_states'], '3.state')
    basicsr.train.load_resume_state(renamed)
    assert renamed['path']['pretrain_network_g'] == network_file(opt)
    assert os.path.isdir(renamed['path']['models'])
    os.remove(network_file(opt))
    with pytest.raises(InputError, match=r'3\.state needs net_g_3\.pth'):
        basicsr.train.load_resume_state(renamed)


def test_a_state_holds_best_metrics_as_plain_values(model, opt):
    model.best_metric_results = {'some': {'psnr': {'better': 'higher', 'val': np.float64(30), 'iter': 2}}}
    model.save_training_state(0, 3)
    state = torch.load(os.path.join(opt['path']['training_states'], '3.state'), weights_only=True)
    assert state['best_metric_results']['some']['psnr']['val'] == 30
    other = build_model(opt)
    other.resume_training(copy.deepcopy(state))
    assert other.best_metric_results['some']['psnr'] == {'better': 'higher', 'val': 30, 'iter': 2}
    BaseModel.save_training_state.upstream(model, 0, 6)
    assert 'best_metric_results' not in torch.load(os.path.join(opt['path']['training_states'], '6.state'))


def test_best_metrics_of_a_set_without_gt_survive_too(model, opt):
    opt['val']['metrics']['niqe'] = {'type': 'calculate_niqe', 'crop_border': 2}
    opt['datasets']['val_2'] = {'name': 'own', 'type': 'SingleImageDataset', 'dataroot_lq': 'x'}
    record = {'better': 'lower', 'val': 4., 'iter': 2}
    state = {'iter': 3, 'epoch': 0, 'optimizers': [x.state_dict() for x in model.optimizers],
             'schedulers': [x.state_dict() for x in model.schedulers],
             'best_metric_results': {'own': {'niqe': record}, 'some': {'psnr': record}}}
    resumed = build_model(opt)
    resumed.resume_training(state)
    # The other set has been measured by fewer metrics than now.
    assert resumed.best_metric_results == {'own': {'niqe': record}}


def test_sets_that_nothing_is_measured_on_resume_too(model, opt):
    opt['datasets']['val_2'] = {'name': 'own', 'type': 'SingleImageDataset', 'dataroot_lq': 'x'}
    record = {'psnr': {'better': 'higher', 'val': 30., 'iter': 2}}
    state = {'iter': 3, 'epoch': 0, 'optimizers': [x.state_dict() for x in model.optimizers],
             'schedulers': [x.state_dict() for x in model.schedulers], 'best_metric_results': {'some': record}}
    resumed = build_model(opt)
    resumed.resume_training(copy.deepcopy(state))
    assert resumed.best_metric_results == {'some': record}
    opt['val']['metrics'] = None
    resumed = build_model(opt)
    resumed.resume_training(state)
    assert resumed.best_metric_results == {}


def test_basicsrs_own_states_still_load_and_other_networks_states_are_refused(model, opt):
    BaseModel.save_training_state.upstream(model, 0, 3)
    state = torch.load(os.path.join(opt['path']['training_states'], '3.state'))
    build_model(opt).resume_training(copy.deepcopy(state))
    state['optimizers'] = []
    with pytest.raises(InputError, match='belongs to other networks or optimizers'):
        model.resume_training(state)


def test_a_state_saved_at_the_end_of_an_epoch_continues_with_the_next(model, opt):
    model.opt.update(iterations_per_epoch=3, epoch_entered=(0, 0))
    for iteration, epoch in ((2, 0), (3, 1), (7, 2)):
        model.save_training_state(0, iteration)
        state = torch.load(os.path.join(opt['path']['training_states'], f'{iteration}.state'))
        assert state['epoch'] == epoch
    BaseModel.save_training_state.upstream(model, 0, 3)
    assert torch.load(os.path.join(opt['path']['training_states'], '3.state'))['epoch'] == 0


@pytest.mark.parametrize('at', [4, 3])
def test_a_resumed_run_is_the_run_that_never_stopped(options, write_options, workdir, at):
    # Three iterations an epoch: 4 lies within one, 3 at its end.
    options['logger']['save_checkpoint_freq'] = at
    options['val']['val_freq'] = 2
    path = write_options(options)
    assert main(['train', '-opt', path, '--force_yml', 'name=whole']) == 0
    assert main(['train', '-opt', path, '--force_yml', f'train:total_iter={at}']) == 0
    assert main(['train', '-opt', path, '--auto_resume']) == 0
    whole, resumed = (torch.load(f'experiments/{name}/models/net_g_latest.pth') for name in ('whole', 'tiny'))
    for key in ('params', 'params_ema'):
        for name, tensor in whole[key].items():
            assert torch.equal(resumed[key][name], tensor), name
    assert sorted(os.listdir('experiments')) == ['tiny', 'whole']


def test_validating_changes_no_weights(options, write_options, workdir, monkeypatch):
    feed_data = SRModel.feed_data

    def feed_noisy(self, data):
        feed_data(self, data)
        if len(self.lq) > 1:    # A batch of training.
            self.lq += torch.randn_like(self.lq)

    monkeypatch.setattr(SRModel, 'feed_data', feed_noisy)
    path = write_options(options)
    for name, frequency in (('never', 100), ('often', 1)):
        assert main(['train', '-opt', path, '--force_yml', f'name={name}', f'val:val_freq={frequency}']) == 0
    never, often = (torch.load(f'experiments/{name}/models/net_g_latest.pth')['params'] for name in ('never', 'often'))
    assert all(torch.equal(often[name], tensor) for name, tensor in never.items())


def test_a_run_that_goes_on_with_other_batches_says_so_and_can_itself_be_resumed(options, write_options, workdir,
                                                                                 capfd):
    path = write_options(options)
    for name, ends in (('whole', [12]), ('tiny', [8, 12])):
        # One iteration into the second epoch; then six iterations an epoch, four of them left.
        assert main(['train', '-opt', path, '--force_yml', f'name={name}', 'train:total_iter=4',
                     'logger:save_checkpoint_freq=4']) == 0
        for end in ends:
            capfd.readouterr()
            assert main(['train', '-opt', path, '--auto_resume', '--force_yml', f'name={name}',
                         f'train:total_iter={end}', 'datasets:train:batch_size_per_gpu=1',
                         'logger:save_checkpoint_freq=4']) == 0
            notice = 'resuming with 1 image a step where the saved state has 2: an epoch takes 6 iterations now'
            assert capfd.readouterr().err.count(notice) == (end == ends[0])
    for file in ('models/net_g_12.pth', 'training_states/12.state'):
        whole, resumed = (torch.load(f'experiments/{name}/{file}') for name in ('whole', 'tiny'))
        assert_same(whole, resumed)
    # Two images of the second epoch were seen in the fourth iteration, the others until the eighth.
    state = torch.load('experiments/tiny/training_states/8.state')
    assert (state['epoch'], state['epoch_began'], state['images_a_step']) == (2, 8, 1)


def test_a_run_resumed_with_shorter_batches_still_reaches_its_end(options, write_options, workdir):
    options['logger']['save_checkpoint_freq'] = 4
    path = write_options(options)
    # One iteration an epoch, then six.
    assert main(['train', '-opt', path, '--force_yml', 'train:total_iter=8',
                 'datasets:train:batch_size_per_gpu=6']) == 0
    assert main(['train', '-opt', path, '--auto_resume', '--force_yml', 'train:total_iter=12',
                 'datasets:train:batch_size_per_gpu=1']) == 0
    assert os.path.exists('experiments/tiny/training_states/12.state')
