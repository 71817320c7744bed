"""What the command says on stderr, and option dicts that test what others trained."""
from diffrwkvir_arch import cli


def error_line(result):
    """The one line of a run that ended with exit code 2."""
    code, errors = result
    lines = errors.strip().splitlines()
    assert code == 2 and lines[-1].startswith('basicsr: error: ') and 'Traceback' not in errors, errors
    assert sum(line.startswith('basicsr: error') for line in lines) == 1
    return lines[-1]


def as_test(options, weights='experiments/tiny/models/net_g_latest.pth'):
    """The option dict that tests what the given one trained."""
    opt = {key: options[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g', 'val')}
    return {**opt, 'datasets': {'test_1': options['datasets']['val']}, 'path': {'pretrain_network_g': weights}}


def fail_with(monkeypatch, error):
    def verb(arguments):
        raise error

    monkeypatch.setitem(cli.VERBS, 'test', verb)
