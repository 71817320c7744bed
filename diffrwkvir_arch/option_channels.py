"""Whether networks take as many channels as the images of datasets have."""
from diffrwkvir_arch.errors import InputError, counted
from diffrwkvir_arch.option_sections import CHANNEL_ARGUMENTS, OUT_CHANNEL_ARGUMENTS, is_own, look_up, registries
from diffrwkvir_arch.signatures import defaults_of, parameters_of


def check_channels(opt):
    """Refuses datasets and networks of ours and BasicSR's that do not fit each other, by their options alone."""
    from diffrwkvir_arch.data.image_source import ImageSource, channels_of
    for phase, dataset in opt['datasets'].items():
        cls = look_up('dataset', dataset['type'], f'datasets.{phase}.type')
        if is_own(cls) and issubclass(cls, ImageSource):
            channels = channels_of(dataset)
            remedy = ('color: gray or color: y makes one of three' if channels == 3 else
                      f'without color: {dataset["color"]} it has three')
            refuse_misfit(opt, channels, channels, f'datasets.{phase}', f'; {remedy}')


def refuse_misfit(opt, lq, gt, what, remedy=''):
    """Raises InputError where network_g or network_d is made for another number of channels.

    Args:
        opt (dict): The options.
        lq, gt (int | None): Channels of the LQ, without a mask, and of the GT where there is one.
        what (str): Whose they are.
        remedy (str): Ends the message.
    """
    for key, names, side, channels in (('network_g', CHANNEL_ARGUMENTS, 'LQ', lq),
                                       ('network_g', OUT_CHANNEL_ARGUMENTS, 'GT', gt),
                                       ('network_d', CHANNEL_ARGUMENTS, 'GT', gt)):
        name, value = channel_argument(opt.get(key), names)
        if value is None or channels is None:
            continue
        if side == 'LQ' and inpaints(opt[key], value):
            value, name = value - 1, f'{name} without the mask\'s'
        if value != channels:
            raise InputError(f'{key}.{name}: {value} does not fit the {counted(channels, "channel")} of the {side} '
                             f'of {what}{remedy}')


def channel_argument(section, names):
    """The argument by which a network of ours or BasicSR's says its channels, and its value; else None and None."""
    arch = section and registries()['arch'].get(section['type'])
    options = {**defaults_of(arch), **section} if arch and is_own(arch) else {}
    return next(((name, options[name]) for name in names if name in options), (None, None))


def inpaints(section, value):
    """Whether one of a network's channels, so many by its options, is a mask."""
    arch = registries()['arch'].get(section['type'])
    takes_mask = 'mask' in parameters_of(getattr(arch, 'forward', arch))
    return takes_mask and value == channel_argument(section, OUT_CHANNEL_ARGUMENTS)[1] + 1
