"""The methods of the equal-budget study: x4 networks of about 0.3 M parameters, one entry each.

A method is a list of stages; a stage is what its option file would say under model_type, network_g and, for the second
of two, train.kd_opt. Windows are 8 pixels wide everywhere, so that they divide the patches, and no block is left out at
random in training: with so few parameters and iterations that only costs.

All one-stage networks see an input of about unit variance or more, as DiffRWKVIR does: EDSR and RCAN take images in
0..255, as their authors do, the others UNIT_VARIANCE where their authors take 0..1, with which they learn later (SwinIR
by 0.3 dB, HAT by 1.0 dB on Set5 after 250 iterations, one seed).
"""
from diffrwkvir_arch.errors import InputError

SCALE = 4
WINDOW = 8
RGB_MEAN = [0.4488, 0.4371, 0.4040]
UNIT_VARIANCE = 4.    # img_range: photographs in 0..1 have a standard deviation of about 0.25
TOLERANCE = 0.25    # of the mean number of parameters


def one_stage(network_g):
    """A network that learns from pixels alone."""
    return [{'model_type': 'RestorationModel', 'network_g': network_g}]


def two_stages(name, network_g, second, kd_weight):
    """A network that first learns a prior from LQ and GT, then to diffuse it from the LQ.

    Args:
        name (str): Registered as NAMES1 and NAMES2.
        network_g (dict): Options of both stages; second (dict): of the second alone.
        kd_weight (float): Weight of the L1 distance to the first stage's prior.
    """
    return [
        {'model_type': 'DiffRWKVIRS1Model', 'network_g': {'type': f'{name}S1', **network_g}},
        {'model_type': 'DiffRWKVIRS2Model', 'network_g': {'type': f'{name}S2', **network_g, **second},
         'kd_opt': {'type': 'KDL1Loss', 'loss_weight': kd_weight}}]


# Few blocks, wide, with full 3x3 convolutions: one of 48 channels has twice the weights of one of 32 and takes a CPU
# 1.4 times as long.
DIFFRWKVIR = dict(scale=SCALE, dim=48, groups=1, blocks=2, head_dim=16, prior_dim=48, encoder_dim=8, encoder_levels=2,
                  compress_ratio=1, up_dim=32)
DIFFRWKVIR_SECOND = dict(steps=5)
DIFFRWKVIR_KD = 0.1

METHODS = {
    'EDSR': one_stage(dict(
        type='EDSR', num_in_ch=3, num_out_ch=3, num_feat=32, num_block=12, upscale=SCALE, res_scale=1, img_range=255.,
        rgb_mean=RGB_MEAN)),
    'RCAN': one_stage(dict(
        type='RCAN', num_in_ch=3, num_out_ch=3, num_feat=32, num_group=2, num_block=5, squeeze_factor=8, upscale=SCALE,
        res_scale=1, img_range=255., rgb_mean=RGB_MEAN)),
    'SwinIR': one_stage(dict(
        type='SwinIR', upscale=SCALE, in_chans=3, img_size=24, window_size=WINDOW, img_range=UNIT_VARIANCE,
        depths=[4, 4], embed_dim=54, num_heads=[6, 6], mlp_ratio=2, drop_path_rate=0., upsampler='pixelshuffledirect',
        resi_connection='1conv')),
    # Its only upsampler has 64 channels and 0.3 M parameters.
    'HAT': one_stage(dict(
        type='HAT', upscale=SCALE, in_chans=3, img_size=24, window_size=WINDOW, compress_ratio=4, squeeze_factor=12,
        conv_scale=0.01, overlap_ratio=0.5, img_range=UNIT_VARIANCE, depths=[3, 3], embed_dim=24, num_heads=[3, 3],
        mlp_ratio=2, drop_path_rate=0., upsampler='pixelshuffle', resi_connection='1conv')),
    'MambaIR': one_stage(dict(
        type='MambaIR', upscale=SCALE, in_chans=3, img_range=UNIT_VARIANCE, embed_dim=48, d_state=8, depths=[3, 3],
        mlp_ratio=2., drop_path_rate=0., upsampler='pixelshuffledirect', resi_connection='1conv')),
    'MambaIRv2Light': one_stage(dict(
        type='MambaIRv2Light', upscale=SCALE, in_chans=3, img_range=UNIT_VARIANCE, embed_dim=48, d_state=8,
        depths=[4, 4], num_heads=[4, 4], window_size=WINDOW, inner_rank=16, num_tokens=32, convffn_kernel_size=5,
        mlp_ratio=1., upsampler='pixelshuffledirect', resi_connection='1conv')),
    'DiffIR': two_stages(
        'DiffIR', dict(scale=SCALE, n_encoder_res=0, dim=8, num_blocks=[2, 1, 1, 1], num_refinement_blocks=2,
                       heads=[1, 2, 4, 8]), dict(timesteps=4), kd_weight=1.),
    'DiffRWKVIR': two_stages('DiffRWKVIR', DIFFRWKVIR, DIFFRWKVIR_SECOND, DIFFRWKVIR_KD),
}

# Method -> why it may be larger than the others.
LARGER = {
    'DiffIR': 'its prior is 256 wide by design, so that prior encoder and denoiser alone have 0.85 M parameters',
}


def for_patches(methods, size):
    """The same methods with img_size set to that of a patch: SwinIR makes its masks anew for every image of another."""

    def fit(network_g):
        return {key: size if key == 'img_size' else value for key, value in network_g.items()}

    return {name: [{**stage, 'network_g': fit(stage['network_g'])} for stage in stages]
            for name, stages in methods.items()}


def choose(known, names):
    """The entries of `known` that `names` lists, in the order of `known`; all for None.

    Raises:
        InputError: An unknown name.
    """
    for name in names or []:
        if name not in known:
            raise InputError(f"--methods: unknown method '{name}'; choose from {', '.join(known)}")
    return {name: stages for name, stages in known.items() if not names or name in names}
