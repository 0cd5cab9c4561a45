"""Register a CT angiogram to a digital subtraction angiogram. Research use only, not a medical device."""

__version__ = "0.1.0"
