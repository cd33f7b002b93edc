"""Differential dynamic programming (Mayne 1966; Jacobson and Mayne 1970; Tassa, Erez and Todorov 2012).

iLQR with the dynamics' second derivatives in the expansion of Q, ``Q_zz += sum_i v_i f_i,zz``: Newton's method
where iLQR is Gauss-Newton's, so it converges quadratically. It needs dynamics with ``hessian(x, u)``, the second
derivatives (B, nx, nx + nu, nx + nu) of `step`.
"""

from mbrl_ros.planners.ilqr import ILQR


class DDP(ILQR):
    """iLQR with second-order dynamics."""

    second_order = True
