"""What the equal-budget study and the ablations share: one protocol of training, scoring and reporting."""
# BasicSR cannot be imported before the plugin has mended it.
import diffrwkvir_arch  # noqa: F401
