"""Names of geoseg, for editors and type checkers; ``__init__.py`` loads them lazily."""

from geoseg.commands.progress import progress_bar as progress_bar
from geoseg.engine.plan import Plan as Plan
from geoseg.engine.segmentmap import SegmentMap as SegmentMap
from geoseg.errors import GeosegError as GeosegError
from geoseg.export.vector import write_vector as write_vector
from geoseg.folder import map_folder as map_folder
from geoseg.grid import Window as Window
from geoseg.legend import Category as Category
from geoseg.legend import Legend as Legend
from geoseg.models.catalogue import load_model as load_model
from geoseg.models.segmenter import ModelCard as ModelCard
from geoseg.models.segmenter import Segmenter as Segmenter
from geoseg.outputs import to_polygons as to_polygons
from geoseg.outputs import write_raster as write_raster
from geoseg.pipeline import MapRequest as MapRequest
from geoseg.pipeline import RunOptions as RunOptions
from geoseg.pipeline import map_scene as map_scene
from geoseg.pipeline import measure_halo as measure_halo
from geoseg.pipeline import plan as plan
from geoseg.pipeline import segment as segment
from geoseg.polygons import polygonize as polygonize
from geoseg.scene.arrays import from_array as from_array
from geoseg.scene.mosaic import mosaic as mosaic
from geoseg.scene.opening import SceneOptions as SceneOptions
from geoseg.scene.opening import open_scene as open_scene
from geoseg.scene.opening import open_scenes as open_scenes
from geoseg.scene.reader import Scene as Scene
from geoseg.scene.region import Region as Region
from geoseg.scene.regrid import resampled as resampled
from geoseg.scene.stack import stack as stack

__version__: str
