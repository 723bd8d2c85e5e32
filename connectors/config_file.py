"""Reads the configuration file of a deployment."""

from pathlib import Path

from schemas.config import Config, ConfigError, parse_config, read_toml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
"""The configurations that come with Sluice."""


def load_config(path: Path) -> Config:
    """Read and check a TOML file. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return read_toml(text, str(path), parse_config)
