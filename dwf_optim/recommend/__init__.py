"""A short range test that finds learning rate, penalty and number of steps."""

from dwf_optim.recommend.advice import Recommendation
from dwf_optim.recommend.recommend import recommend
from dwf_optim.recommend.schedule import RunSchedule, rate_factor
from dwf_optim.recommend.trial import Trial

__all__ = ["Recommendation", "RunSchedule", "Trial", "rate_factor", "recommend"]
