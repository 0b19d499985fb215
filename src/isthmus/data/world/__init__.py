"""A generated world with known truth: `generate_world(WorldConfig(transfer=0.5))`."""

from isthmus.data.world.behaviour import Market, Shown
from isthmus.data.world.catalogue import Catalogue
from isthmus.data.world.society import People
from isthmus.data.world.spec import DomainName, DomainSpec, WorldConfig
from isthmus.data.world.tastes import Tastes
from isthmus.data.world.themes import Theme, Topic
from isthmus.data.world.world import World, generate_world

__all__ = [
    "Catalogue",
    "DomainName",
    "DomainSpec",
    "Market",
    "People",
    "Shown",
    "Tastes",
    "Theme",
    "Topic",
    "World",
    "WorldConfig",
    "generate_world",
]
