"""The studio: what merchandisers and managers see of a shop, pages under ``/studio`` of `molar serve`."""
