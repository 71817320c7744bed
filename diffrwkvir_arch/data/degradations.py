"""What an option file can do to an image, by name, one after another."""
import math

from diffrwkvir_arch.data.real_esrgan import RealESRGAN
from diffrwkvir_arch.data.simple_degradations import Bicubic, Blur, GaussianNoise, Jpeg
from diffrwkvir_arch.errors import InputError, did_you_mean
from diffrwkvir_arch.signatures import check_names

DEGRADATIONS = {'gaussian_noise': GaussianNoise, 'blur': Blur, 'jpeg': Jpeg, 'bicubic': Bicubic,
                'real_esrgan': RealESRGAN}


def build_degradations(option, degradation, scale=1):
    """The degradations of an option file, in their order.

    Args:
        option (str): Names the option in error messages.
        degradation (dict | list of dict): A type of DEGRADATIONS with its options, or several of them.
        scale (int): GT side over LQ side.

    Returns:
        list: Each to be called with an image.

    Raises:
        InputError: Names the option, what it is and what it can be.
    """
    if not isinstance(degradation, list):
        built = [_build(option, degradation, scale)]
    else:
        built = [_build(f'{option}[{number}]', section, scale) for number, section in enumerate(degradation)]
    if not built:
        raise InputError(f'{option} is empty; it holds degradations such as {{type: gaussian_noise, sigma: 25}}')
    shrinking = [name for name, kind in DEGRADATIONS.items() for one in built if isinstance(one, kind) and one.shrinks]
    if scale > 1 and not shrinking:
        raise InputError(f'{option}: nothing in it makes images {scale} times smaller, as scale: {scale} wants; put '
                         '{type: bicubic} where that is to happen, or use {type: real_esrgan}')
    if len(shrinking) > 1:
        raise InputError(f'{option}: {" and ".join(shrinking)} each divide sides by the scale; keep one of them')
    return built


def _build(option, section, scale):
    if not isinstance(section, dict) or 'type' not in section:
        raise InputError(f'{option} must be a section such as {{type: gaussian_noise, sigma: 25}}, or a list of such '
                         f'sections, got {section!r}')
    options = {key: value for key, value in section.items() if key != 'type'}
    name = section['type']
    if not isinstance(name, str) or name not in DEGRADATIONS:
        raise InputError(f"{option}.type: unknown degradation '{name}'{did_you_mean(name, DEGRADATIONS)}; choose from "
                         f'{", ".join(DEGRADATIONS)}')
    kind = DEGRADATIONS[name]
    if kind.shrinks:
        if 'scale' in options:
            raise InputError(f'{option}.scale: leave it out, it is that of the option file, {scale}')
        options['scale'] = scale
    check_names(option, options, kind, given=['option'])
    return kind(option, **options)


def reach_of(degradations, scale):
    """How many pixels of the GT around a patch its LQ depends on, a multiple of the scale."""
    reach, size = 0, 1
    for degradation in degradations:
        reach += size * degradation.reach
        if degradation.shrinks:
            size = scale
    return math.ceil(reach / scale) * scale
