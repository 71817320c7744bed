"""Runs every method on every image of every set, or takes what an earlier run has found."""
import statistics
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import torch
from basicsr.utils import tensor2img
from basicsr.utils.registry import METRIC_REGISTRY

from diffrwkvir_arch.device import out_of_memory
from diffrwkvir_arch.errors import InputError, one_line
from diffrwkvir_arch.self_ensemble import self_ensemble

from ..call_cost import device_name, milliseconds
from ..preparation.pieces import write_png
from .image_sets import digest
from .journal import key_of
from .made_elsewhere import RestoredImages
from .network import finished
from .scoring import score
from .set_scoring import score_set
from .users_code import code_of


@dataclass
class Settings:
    """What all methods share. tile, overlap, input_size (h, w): in LQ pixels; metrics: name -> options.

    set_metrics: likewise, those that belong to a set as a whole and need save_images.
    """
    scale: int
    device: torch.device
    metrics: dict
    out: Path
    input_size: tuple
    tile: Optional[int]
    overlap: int
    repeats: int
    save_images: bool
    set_metrics: dict = field(default_factory=dict)
    self_ensemble: bool = False

    @cached_property
    def metric_codes(self):
        """Name -> digest of the code, of users' metrics."""
        codes = {name: code_of(METRIC_REGISTRY.get(options['type'])) for name, options in self.metrics.items()}
        return {name: code for name, code in codes.items() if code}

    def conditions(self):
        """What a result depends on beside method and image."""
        tiles = [self.tile, self.overlap] if self.tile else None
        ensemble = ['self-ensemble'] if self.self_ensemble else []
        return [self.scale, device_name(self.device), torch.__version__, tiles, self.repeats, *ensemble]

    def restored_path(self, set_name, method, image):
        return self.out / 'restored' / set_name / method / f'{image}.png'


@dataclass
class Results:
    """What is known so far.

    rows: dicts of method, set, image, scores, ms, peak_mb, and keep where a run was to keep the restored image.
    costs: method -> what Contestant.cost gives. set_scores: (method, set) -> what score_set gives. failures:
    (method, set) -> reason; set None where the method could not even start. computed: images restored now.
    """
    rows: list = field(default_factory=list)
    costs: dict = field(default_factory=dict)
    set_scores: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    computed: int = 0

    def of(self, method, set_name):
        """The rows of a method on a set; none where it failed there."""
        if {(method, None), (method, set_name)} & self.failures.keys():
            return []
        return [row for row in self.rows if (row['method'], row['set']) == (method, set_name)]


class Contestant:
    """A method at work: loaded when something has to be computed, warmed up before it is timed."""

    def __init__(self, method, settings, journal):
        self.method, self.settings, self.journal = method, settings, journal
        self.identity = method.identity()
        self.warmed_up_on = set()

    @cached_property
    def restorer(self):
        self.held_before = torch.cuda.memory_allocated(self.settings.device) if self.on_gpu else 0
        return self.method.load(self.settings.scale, self.settings.device)

    @property
    def on_gpu(self):
        return self.settings.device.type == 'cuda'

    def cost(self):
        """Network.count at settings.input_size, note and reads_gt, from the journal or found out now."""
        key = key_of('cost', self.identity, self.settings.scale, self.settings.input_size)
        if self.journal.get(key) is None:
            lq = torch.rand(1, 3, *self.settings.input_size, generator=torch.Generator().manual_seed(0))
            self.journal.put(key, {**self.restorer.count(lq.to(self.settings.device)), 'note': self.restorer.note,
                                   'reads_gt': self.restorer.reads_gt})
        return self.journal.get(key)

    def result(self, sample, image_set):
        """-> the row of an image of a set, and whether it was computed now."""
        key = key_of(self.identity, sample.fingerprint, self.settings.conditions())
        found = self.journal.get(key)
        path = self.settings.restored_path(image_set.name, self.method.label, sample.name)
        restored = self.kept(path, found) if found else None
        computed = restored is None and (not found or self.settings.save_images or bool(self.lacking(found)))
        if computed:
            restored, measured = self.made(sample, image_set)
            write_image(path, restored)
            found = {**measured, 'scores': {}, 'file': path.relative_to(self.settings.out).as_posix()}
        if self.lacking(found):
            more = score(restored, sample.gt, sample.mask, self.lacking(found))
            found = {**found, 'scores': {**found['scores'], **more}}
            if self.settings.metric_codes:
                found['metric_codes'] = {**found.get('metric_codes', {}), **self.settings.metric_codes}
        if self.settings.save_images:
            found = {**found, 'keep': True}
        if found != self.journal.get(key):
            self.journal.put(key, found)
        return found, computed

    def lacking(self, found):
        """The metrics that a result was not measured by, or by other code."""
        codes = found.get('metric_codes', {})
        return {name: options for name, options in self.settings.metrics.items()
                if name not in found['scores'] or codes.get(name) != self.settings.metric_codes.get(name)}

    def set_scores(self, image_set, rows):
        """What score_set finds on the restored images in files."""
        def read(row):
            path = self.settings.restored_path(image_set.name, self.method.label, row['image'])
            return read_restored(path, row['restored'])

        return score_set(image_set, rows, read, self.settings.set_metrics, self.journal)

    def kept(self, path, found):
        """A result's restored image at `path`, where it is copied to if it was made under other names; or None."""
        image = read_restored(path, found['restored'])
        if image is None:
            image = read_restored(self.settings.out / found['file'], found['restored'])
            if image is not None:
                write_image(path, image)
        return image

    def made(self, sample, image_set):
        """As `measure`; what was restored elsewhere is read, and its time and memory are None."""
        if not isinstance(self.restorer, RestoredImages):
            return self.measure(sample)
        restored = tensor2img(self.restorer.image(image_set, sample))
        return restored, {'ms': None, 'peak_mb': None, 'restored': digest(restored)}

    def measure(self, sample):
        """Restores an image; -> BGR uint8 (H, W, 3), and its time, memory and hash."""
        settings, times, outputs = self.settings, [], []
        lq, gt, mask = sample.lq_batch(settings.device), None, sample.mask_batch(settings.device)
        if self.restorer.reads_gt:
            gt = sample.gt_batch(settings.device)
        if self.restorer.needs_mask and mask is None:
            raise InputError(f'{self.method.inpaints}, and this set has no masks')
        if mask is not None and not self.restorer.needs_mask:
            raise InputError('it takes no mask, and this set has masks')

        def restore(lq, gt, mask):
            return self.restorer.restore(lq, gt, mask, settings.tile, settings.overlap)

        def call():
            images = lq, gt, mask
            outputs[:] = [self_ensemble(restore, *images) if settings.self_ensemble else restore(*images)]

        with torch.no_grad():
            # cuDNN and Triton choose kernels for every size anew; a CPU only has code and memory to fetch.
            size = tuple(lq.shape) if self.on_gpu else None
            if size not in self.warmed_up_on:
                call()
                self.warmed_up_on.add(size)
            if self.on_gpu:
                torch.cuda.reset_peak_memory_stats(settings.device)
            for _ in range(settings.repeats):
                times.append(milliseconds(call, settings.device))
        peak = (torch.cuda.max_memory_allocated(settings.device) - self.held_before) / 1e6 if self.on_gpu else None
        restored, = outputs
        restored = tensor2img(finished(restored, lq, mask))
        return restored, {'ms': statistics.median(times), 'peak_mb': peak, 'restored': digest(restored)}


def contest(methods, sets, settings, journal, bar):
    """Runs all of them; what fails is noted and the others go on.

    Args:
        methods (list of Method), sets (list of ImageSet), settings (Settings), journal (Journal).
        bar (tqdm): Moves by one for every image of every method.

    Returns:
        Results
    """
    results = Results()
    images = sum(map(len, sets))
    for i, method in enumerate(methods):
        bar.set_description(method.label)
        try:
            contestant = Contestant(method, settings, journal)
            results.costs[method.label] = contestant.cost()
        except Exception as error:
            note_failure(results, settings, method.label, None, error)
        else:
            for image_set in sets:
                run_set(contestant, image_set, results, bar)
        contestant = None
        bar.update((i + 1) * images - bar.n)
    return results


def run_set(contestant, image_set, results, bar):
    """One method on one set; a failure ends the set, whose mean would be of other images than the others'."""
    label = contestant.method.label
    for i in range(len(image_set)):
        # A file that cannot be read is nobody's failure: it ends the comparison.
        sample = image_set.sample(i)
        bar.set_postfix_str(f'{image_set.name}/{sample.name}')
        try:
            found, computed = contestant.result(sample, image_set)
        except Exception as error:
            note_failure(results, contestant.settings, label, image_set.name, error, sample.name)
            return
        results.computed += computed
        results.rows.append({'method': label, 'set': image_set.name, 'image': sample.name,
                             'fingerprint': sample.fingerprint, **found})
        bar.update()
    if contestant.settings.set_metrics:
        bar.set_postfix_str(f'{image_set.name}: {", ".join(contestant.settings.set_metrics)}')
        rows = results.of(label, image_set.name)
        try:
            results.set_scores[label, image_set.name] = contestant.set_scores(image_set, rows)
        except Exception as error:
            note_failure(results, contestant.settings, label, image_set.name, error)


def note_failure(results, settings, label, set_name, error, image=None):
    """Adds a failure to the results, and its traceback to failures.log."""
    reason = one_line(error)
    if out_of_memory(error):
        smaller = settings.tile // 2 if settings.tile else 256
        reason = f'out of memory; --tile {smaller} needs less'
        if settings.device.type == 'cuda':
            torch.cuda.empty_cache()
    results.failures[label, set_name] = f'{image}: {reason}' if image else reason
    with (settings.out / 'failures.log').open('a', encoding='utf-8') as file:
        file.write(f'{label}, {set_name or "not started"}\n{"".join(traceback.format_exception(error))}\n')


def write_image(path, image):
    """Writes BGR uint8 as PNG to any path, whatever characters it holds; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, image)


def read_restored(path, expected):
    """The image that write_image wrote, or None where it is gone or another one by now."""
    if not path.is_file():
        return None
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return image if image is not None and digest(image) == expected else None
