"""Every setting of `isthmus.toml`, as typed models; a file for each group of sections."""

from isthmus.config.continual import LearningConfig
from isthmus.config.judging import PARTS, BlendConfig, EvaluationConfig
from isthmus.config.language_learning import (
    TUNING_METHODS,
    DistillationConfig,
    PretrainingConfig,
    TuningConfig,
    TuningMethod,
)
from isthmus.config.learning import HEADS, ModelConfig, TrainingConfig
from isthmus.config.online import OnlineConfig
from isthmus.config.search import Range, SearchConfig, TrackingConfig
from isthmus.config.serving import ServingConfig
from isthmus.config.tables import (
    DOMAIN_NAMES,
    CleaningConfig,
    DomainConfig,
    EventColumns,
    ItemColumns,
    PeopleConfig,
    SplitConfig,
    misnamed,
)
from isthmus.config.tasks import (
    CLICK_HEADS,
    RATE_HEADS,
    TUNED,
    ClickConfig,
    CrossEncoderConfig,
    RateConfig,
    TasksConfig,
)
from isthmus.config.texts import (
    FEATURE_MAPS,
    REPRESENTATION_LOSSES,
    AlignmentConfig,
    LanguageConfig,
)
from isthmus.config.transfer import (
    STRATEGIES,
    DistilConfig,
    MetaConfig,
    PretrainConfig,
    PseudoLabelConfig,
    TransferConfig,
)
from isthmus.config.whole import Config

__all__ = [
    "CLICK_HEADS",
    "DOMAIN_NAMES",
    "FEATURE_MAPS",
    "HEADS",
    "PARTS",
    "RATE_HEADS",
    "REPRESENTATION_LOSSES",
    "STRATEGIES",
    "TUNED",
    "TUNING_METHODS",
    "AlignmentConfig",
    "BlendConfig",
    "CleaningConfig",
    "ClickConfig",
    "Config",
    "CrossEncoderConfig",
    "DistilConfig",
    "DistillationConfig",
    "DomainConfig",
    "EvaluationConfig",
    "EventColumns",
    "ItemColumns",
    "LanguageConfig",
    "LearningConfig",
    "MetaConfig",
    "ModelConfig",
    "OnlineConfig",
    "PeopleConfig",
    "PretrainConfig",
    "PretrainingConfig",
    "PseudoLabelConfig",
    "Range",
    "RateConfig",
    "SearchConfig",
    "ServingConfig",
    "SplitConfig",
    "TasksConfig",
    "TrackingConfig",
    "TrainingConfig",
    "TransferConfig",
    "TuningConfig",
    "TuningMethod",
    "misnamed",
]
