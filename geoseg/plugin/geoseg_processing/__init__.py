"""geoseg in QGIS: a Processing provider that runs geoseg in its own environment."""


def classFactory(iface):  # noqa: N802 - the name that QGIS calls
    """The plugin."""
    from .provider import GeosegPlugin

    return GeosegPlugin(iface)
