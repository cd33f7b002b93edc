"""Coloured noise: random control sequences whose power falls with frequency.

Robots are low-pass filters: white noise cancels itself before it moves anything (Pinneri et al. 2020, iCEM).
"""

import numpy as np


def coloured_noise(rng: np.random.Generator, exponent: float, samples: int, horizon: int, nu: int) -> np.ndarray:
    """Gaussian sequences with power spectrum ``1 / f^exponent`` and unit variance at every step.

    Timmer and Koenig (1995): independent complex normal coefficients, scaled, then an inverse real FFT.

    Args:
        rng: random generator.
        exponent: 0 white, 1 pink, 2 red.
        samples: N.
        horizon: H.
        nu: action entries.

    Returns:
        (N, H, nu)
    """
    if horizon == 1 or exponent == 0.0:  # steps are independent: no transform needed; time first, as rollouts take it
        return rng.standard_normal((horizon, samples, nu)).transpose(1, 0, 2)
    frequency = np.fft.rfftfreq(horizon)
    frequency[0] = frequency[1]  # a constant offset is as strong as the slowest wave
    amplitude = frequency ** (-0.5 * exponent)
    real, imaginary = rng.standard_normal((2, samples, nu, len(frequency)))
    weight = np.full(len(frequency), 2.0)  # how much each coefficient adds to the variance
    imaginary[..., 0] = 0.0  # the constant and, for even lengths, the fastest wave are real
    weight[0] = 1.0
    if horizon % 2 == 0:
        imaginary[..., -1] = 0.0
        weight[-1] = 1.0
    real_only = weight == 1.0
    real[..., real_only] *= np.sqrt(2.0)
    variance = np.sum(2.0 * weight * amplitude**2) / horizon**2
    sequences = np.fft.irfft((real + 1j * imaginary) * amplitude, horizon, axis=-1) / np.sqrt(variance)
    return sequences.transpose(0, 2, 1)
