"""One module a family of variants; :mod:`mlff_distiller.variants.registry` lists them."""
