"""The portal: people submit models, workers measure them, an operator reviews and publishes what came out.

One database holds every submission, every change of its state and every record. Nothing else remembers anything:
portal, bundle checker and workers may be killed at any time and started again.
"""
