"""Installs the BasicSR plugin `diffrwkvir_arch` and the operator `state_evolution` that it is built on."""
from setuptools import find_packages, setup

# HAT's network.
PEERS = ['spandrel>=0.4.2']
# `basicsr export` to ONNX.
ONNX = ['onnx>=1.23', 'onnxscript>=0.7', 'onnxruntime>=1.23']
# FID and KID.
METRICS = ['torch-fidelity>=0.4']

setup(
    name='diffrwkvir',
    version='0.1.0',
    description='DiffRWKVIR: image restoration by state evolution and a diffused prior, as a BasicSR plugin',
    long_description=open('README.md', encoding='utf-8').read(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    project_urls={'Paper': 'https://arxiv.org/abs/2506.14541'},
    classifiers=[f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 14)],
    python_requires='>=3.10',
    packages=find_packages(include=['diffrwkvir_arch*']) + ['diffrwkvir_arch.options', 'state_evolution'],
    package_dir={'state_evolution': 'kernels/state_evolution', 'diffrwkvir_arch.options': 'options'},
    package_data={'diffrwkvir_arch': ['weights/*'], 'diffrwkvir_arch.options': ['*.yml']},
    install_requires=[
        'basicsr>=1.4.2',
        'torch>=2.8',
        'torchvision>=0.23',
        'triton>=3.3; platform_system == "Linux" and platform_machine == "x86_64"',
        'mmengine>=0.10.7',
        'numba>=0.60',
        'lmdb>=1.4',
        'opencv-python>=4.13',
        'lpips>=0.1.4',
        'scikit-image>=0.25',
        'matplotlib>=3.9',
        'tifffile>=2024.8.10',
        'numpy>=2',
        'pillow>=11.3',
        'pyyaml',
        'tqdm',
    ],
    extras_require={'peers': PEERS, 'metrics': METRICS, 'onnx': ONNX,
                    'test': ['pytest>=9', 'pytest-timeout', 'pytest-xdist', *PEERS, *ONNX]},
    entry_points={'console_scripts': ['basicsr=diffrwkvir_arch.cli:main']},
)
