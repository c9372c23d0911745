"""The teacher: searches the qindexes of a clip by encoding it again and again.

It knows nothing of libvpx: what it needs of an encoder is `PlanEncoder`.
"""

from muzero_rc.agents.hindsight.encoder import Outcome, PlanEncoder
from muzero_rc.agents.hindsight.plan import Plan, PlanBase, frame_key
from muzero_rc.agents.hindsight.response import ResponseModel
from muzero_rc.agents.hindsight.search import SearchProgress, SearchResult, search
from muzero_rc.agents.hindsight.starts import probed_plans, start_plans
from muzero_rc.agents.hindsight.trial_runner import TrialRunner

__all__ = [
    "PlanBase",
    "TrialRunner",
    "Outcome",
    "Plan",
    "PlanEncoder",
    "ResponseModel",
    "SearchProgress",
    "SearchResult",
    "frame_key",
    "probed_plans",
    "search",
    "start_plans",
]
