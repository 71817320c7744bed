"""Networks make nothing on another device than that of their weights; on an imitation of a GPU, without numbers."""
import pytest
import torch
from basicsr.archs import build_network
from compare_cases import DIFFUSING, INPAINTING
from torch._subclasses.fake_tensor import FakeTensorMode

TRANSFORMER = {'upscale': 2, 'img_size': 16, 'depths': [2], 'num_heads': [2], 'embed_dim': 8, 'mlp_ratio': 2,
               'upsampler': 'pixelshuffle'}
DIFFIR = {'scale': 2, 'n_encoder_res': 1, 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1,
          'heads': [1, 1, 1, 1]}
MAMBA2 = {**TRANSFORMER, 'd_state': 4, 'inner_rank': 4, 'num_tokens': 4, 'convffn_kernel_size': 5}
PLAIN = {'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2}
NETWORKS = [
    DIFFUSING,
    INPAINTING,
    *({**DIFFUSING, 'type': 'DiffRWKVIRS1', **change} for change in (
        {'upsampler': 'stepwise'}, {'mixer': 'attention', 'ffn': 'gated_mlp'}, {'mixer': 'resnet', 'ffn': 'mlp_relu'},
        {'mixer': 'rwkv', 'shift': 'quad'}, {'scan': 'split', 'shift': 'uni'}, {'scan': '1d'})),
    {**INPAINTING, 'type': 'DiffRWKVIRS1'},
    {**DIFFIR, 'type': 'DiffIRS1'},
    {**DIFFIR, 'type': 'DiffIRS2', 'n_denoise_res': 1, 'timesteps': 2},
    {**TRANSFORMER, 'type': 'SwinIR', 'window_size': 8},
    {**TRANSFORMER, 'type': 'HAT', 'window_size': 8, 'compress_ratio': 2, 'squeeze_factor': 2},
    {'type': 'MambaIR', 'upscale': 2, 'embed_dim': 8, 'd_state': 4, 'depths': [1], 'mlp_ratio': 2.,
     'upsampler': 'pixelshuffle'},
    {**MAMBA2, 'type': 'MambaIRv2'},
    {**MAMBA2, 'type': 'MambaIRv2Light', 'upsampler': 'pixelshuffledirect'},
    {**PLAIN, 'type': 'EDSR', 'num_feat': 8, 'num_block': 1},
    {**PLAIN, 'type': 'RCAN', 'num_feat': 8, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 2},
    {**PLAIN, 'type': 'SRCNN'},
    {**PLAIN, 'type': 'VDSR', 'num_feat': 8, 'num_conv': 3},
]


def run_on_gpu(net, options):
    """The result of a network on LQ images of 16x16 pixels."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        held = {name: mode.from_tensor(value).to('cuda')
                for name, value in (*net.named_parameters(), *net.named_buffers())}
        scale = options.get('scale') or options['upscale']
        images = {'lq': torch.rand(2, 3, 16, 16, device='cuda')}
        if options['type'].endswith('S1'):
            images['gt'] = torch.rand(2, 3, scale * 16, scale * 16, device='cuda')
        if options.get('in_channels') == 4:
            images['mask'] = torch.zeros(2, 1, 16, 16, device='cuda')
        lq = images.pop('lq')
        return torch.func.functional_call(net, held, (lq, ), images)


@pytest.mark.parametrize('options', NETWORKS, ids=lambda options: options['type'])
def test_a_network_stays_on_its_gpu(options, monkeypatch):
    if options['type'] == 'HAT':
        pytest.importorskip('spandrel')
    pytest.importorskip('triton')
    # Would ask the driver.
    monkeypatch.setattr('state_evolution.backends.why_not', lambda *args: None)
    net = build_network(options).eval()
    scale = options.get('scale') or options['upscale']
    output = run_on_gpu(net, options)
    assert output.device.type == 'cuda' and output.shape == (2, 3, scale * 16, scale * 16)


def test_what_is_made_elsewhere_is_found():
    class Astray(torch.nn.Conv2d):
        def forward(self, lq):
            return super().forward(lq) + torch.zeros(3, 1, 1)

    with pytest.raises(RuntimeError, match='devices'):
        run_on_gpu(Astray(3, 3, 1), {'type': 'Astray', 'upscale': 1})
