"""The screens, a module each; ``molar_serving.studio.app`` joins them."""
