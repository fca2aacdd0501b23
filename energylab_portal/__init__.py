"""The portal: people submit models, workers measure them, an operator reviews and publishes the results.

One database stores all submissions, changes of state and records, so portal, bundle checker and workers may be killed
and restarted at any time.
"""
