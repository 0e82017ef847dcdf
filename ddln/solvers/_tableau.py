"""Coefficients of Rosenbrock methods."""

import dataclasses

Row = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class RosenbrockTableau:
    """An s-stage Rosenbrock-Wanner method in the form without products with the Jacobian.

    With J = df/dy and f_t = df/dt at (t, y), and W = I - gamma h J, the stages k_1, ..., k_s solve

        W k_i = gamma (h f(t + c_i h, y + sum_j a_ij k_j) + sum_j C_ij k_j + d_i h^2 f_t),   j < i,

    and the step is y_1 = y + sum_i m_i k_i with the error estimate sum_i e_i k_i (Hairer and
    Wanner, Solving Ordinary Differential Equations II, section IV.7, times gamma h, to
    admit h = 0). Dense output at t + x h, 0 <= x <= 1, is

        (1 - x) y + x (y_1 + (1 - x) (D_1 + x (D_2 + ... ))),   D_r = sum_i H_ri k_i.

    Attributes:
        order: the order of y_1.
        gamma: the diagonal coefficient.
        nodes: c_i.
        time: d_i.
        stages: row i holds a_ij for j < i.
        couplings: row i holds C_ij for j < i.
        weights: m_i.
        error: e_i.
        dense: the rows H_r.
    """

    order: int
    gamma: float
    nodes: Row
    time: Row
    stages: tuple[Row, ...]
    couplings: tuple[Row, ...]
    weights: Row
    error: Row
    dense: tuple[Row, ...]
