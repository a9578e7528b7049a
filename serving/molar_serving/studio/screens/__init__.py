"""The screens, a module each; ``molar_serving.studio.tables`` joins them."""
