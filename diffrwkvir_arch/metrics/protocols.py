"""The two ways in which the field reports PSNR and SSIM, by name, as the metrics section of an option file.

They differ by a decibel or more on the same images, so a table has to say which one it holds.
"""
from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.values import is_whole

# Name -> suffix of the metrics' names, whether `scale` pixels of border are left out, whether luma is compared.
PROTOCOLS = {
    'y_border': {'suffix': 'y', 'crops_border': True, 'test_y_channel': True},
    'rgb': {'suffix': 'rgb', 'crops_border': False, 'test_y_channel': False},
}


def protocol_metrics(protocol, scale):
    """The metrics of a protocol, ready for `val.metrics` and basicsr.metrics.calculate_metric.

    Args:
        protocol (str): 'y_border': BT.601 luma, `scale` pixels left out on each side, what most papers on
            super-resolution report. 'rgb': the three colours, the whole image.
        scale (int): Side of the restored image over side of the LQ, >= 1.

    Returns:
        dict[str, dict]: psnr_y and ssim_y, or psnr_rgb and ssim_rgb, with 'type' and all options.

    Raises:
        InputError: Another protocol or scale.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f'unknown protocol {protocol!r}{did_you_mean(protocol, PROTOCOLS)}; choose from '
                         f'{", ".join(PROTOCOLS)}')
    if not is_whole(scale, 1):
        raise InputError(f'scale must be a whole number of at least 1, got {scale!r}')
    rules = PROTOCOLS[protocol]
    options = {'crop_border': scale if rules['crops_border'] else 0, 'test_y_channel': rules['test_y_channel']}
    return {f'{name}_{rules["suffix"]}': {'type': f'calculate_{name}', **options, 'better': 'higher'}
            for name in ('psnr', 'ssim')}
