__all__ = ['ttypes', 'constants', 'scribe']
