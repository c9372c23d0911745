"""The rate-control environment: a steppable libvpx VP9 encoder behind Gymnasium.

Importing it registers `muzero_rc/VP9RateControl-v1` with Gymnasium.
"""

from muzero_rc.env.gym.registration import register

register()
