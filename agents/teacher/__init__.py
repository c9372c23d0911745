"""The teacher: searches the qindexes of a clip by encoding it again and again.

It knows nothing of libvpx: what it needs of an encoder is `PlanEncoder`.
"""

from muzero_rc.agents.teacher.bench import Bench
from muzero_rc.agents.teacher.encoder import Cancelled, Outcome, PlanEncoder
from muzero_rc.agents.teacher.plan import Anchor, Plan, frame_key
from muzero_rc.agents.teacher.search import SearchProgress, SearchResult, search
from muzero_rc.agents.teacher.starts import start_plans

__all__ = [
    "Anchor",
    "Bench",
    "Cancelled",
    "Outcome",
    "Plan",
    "PlanEncoder",
    "SearchProgress",
    "SearchResult",
    "frame_key",
    "search",
    "start_plans",
]
