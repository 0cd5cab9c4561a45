"""Words that name nobody: of series, of anatomy, of files; a name or a free text made of these alone may be shown.

Some are surnames too (long, good). They stand here as they say what a file is, and by themselves tell nobody apart.
"""

from __future__ import annotations

# What series of a head's CT are called in the archives of English, German, French, Spanish and Italian hospitals.
_SERIES = """
3d 3dra angio angiografia angiographie angiography arch art arterial arterie arterielle average ax axial bolus bone brain
carotid carotids carotis cct cerebral cervical circle col contrast contraste control cor coronal cow crane craneo cranial cranio
cranium ct cta ctp delay delayed dyna dynact dynamic early enhanced fine first fl hals head helical iv kontrast kopf late
localiser localizer lung mip mm mpr mr mra nativ native nc neck no non noncontrast nonenhanced of os osseux parenchyma perfusion
phase plain portal post pre raw recon reformat rotational sag sagittal scan schaedel schädel scout second sharp sinus skull slab
smooth soft spc spiral stand standard stroke sub subtracted tete thick thin third thorax tissue tof topogram tronc troncs tsa
tsao tête unenhanced vaso veineux venoes venous venös vessel vessels volume vrt w weich willis with without wo xa
"""
# Vessels and points on them.
_ANATOMY = """
a1 a2 aca acom anterior arteries artery ba basilar bifurcation branch cavernous clot confluence cortical deep distal dural eca
external frontal ica ima inferior internal jugular l lateral left lica m1 m2 m3 mca medial middle origin p1 p2 pca pcom
posterior proximal r rica right siphon straight superficial superior sylvian t terminus tip top torcula transverse trunk va vein
veins vert vertebral
"""
# Files, what is done to them, and what this program calls its own.
_FILES = """
above absent acquired added adult affine after again aligned all alone altered ambient analysis angle angled angles anonymous
answers ants any ap applied area arrival artefact artefacts ascii aside astray attempt author auto averaged away axis background
bad bare baseline before below beside best better between big bigger binary biplane bit black blank block bmp bomb both bottom
bright broken bspline build built cache calibration carm case cases cell cells changed chart check checked chosen ckpt claims
clean cleaned clipped closed closest coarse coil colour colours column columns comma commas compressed confidence config
consensus converted copied copies copy coronary correct corrected corrupt count cpu cropped csv ctas ctv cube cuda current curve
curves cut cutoff cxr damaged dark data date dcm dcms decoded deep deepiterreg deflate deg demo denoised dense depth detail
detector device dicom dicomdir died diff difference digital disc disk distance distorted doc docx dose double down draft drawn
drr dsa dsas dual duplicate each easy edge edited eight element elements elsewhere empty end enhanced enlarged equal error
errors escaped euler even every evil exact exam example examples expected experiment experiments export exported extended
extension external extra extracted f faint fake false far fast fcsv fewer fid fids fiducials field file files filled filler film
filter filtered final fine finest finished five fixed flat flip flipped float fluoro folder follow followup four fraction
fractional frame frames fresh from front fsl full gantry ge general generated genuine gif given gone good gpu grey grid ground
group gz gzip h5 half hand hard hdf5 hdr header heads heavy height hidden high higher histogram home horizontal html hu huge id
ids im ima image images img import imported in index inf info init initial injection inner input inputs inside intensity into
inverse inverted ir iso item items joined jpeg jpg json kept key label labelled labelmap labels landmark landmarks large larger
last lat latest latin layer layers least left legacy length lesion less level light likely limit line linear link list listed
little local log long longer look loop loose lossless lossy loud low lower lps made main manual many map marked markups mask
masked masks mat match matched matrix max maximum maybe md mean measured median medium merged mesh message metal method metrics
mha mhd min mine minimum minip minus mirrored missing mixed model models modified monai money monochrome more most motion moved
moving mp4 mr mrb mrk mrml multi name names nan narrow native near nearest need needed negative network new next nhdr nii nine
no noise noisy none normal normalised not note notes nothing npz nrrd number numbered numbers obj object objects oblique
occluded odd offset old once one only open optimised option options order ordered original other others out outer outline output
outside over overlay overlays own p pack packages packbits packed pad padded page pages pair paired pairs palette panel paper
parent part partial parts passed pat patch path patient pattern pdf people perfect phantom phases philips phys pick picked
picture pictures piece pieces pil pipe pixel pixels place placed plan plane planes plot plots plus ply png point points pose
poses position positive possible posterior ppt predicted prediction preferred preop prepared preset preview previous primary
print prior private probability probe processed progressive project projection projections proof proposal public px quality
quarter quick quiet random range ranks ranks1 ranks2 ras raster rate ratio read reader readers reading readme ready real rear
recent record records recovered reduced reference refined region registered registration rejected relative removed renamed
repeat repeated replaced report reports request required resampled rescaled residual rest restored result results review revised
rf rgb rgba rigid ring rle roadmap robustness room rotated rotation rough round rounded row rows rtd rtss run runs safetensors
same sample saved scale scaled scanner scene scheduler science score screen screenshot search second secondary section sections
sector seed seeds seen seg segment segmentation segmentations segments selected selection sensor sent separate sequence serial
series set settings seven shape shaped shared sheet shift shifted short shot shown shutter side siemens signed similar simple
simulated single six size sized sizes skipped slice slicer slices slow small smaller smallest smoothed solid some sorted source
space spacing sparse special speed sphere split spot square stack stacked stage stale start state static status stderr step
steps still stl stored straight stream strip strips stroke strong struct structure stub stubs study style subject subset
subtraction summary surface swap swapped swc switch synthetic system table tables tag tags tall tar target temp template
temporary ten test tests text texture tfm theirs thesis thick thinner third threshold tif tiff tile tiled tilt tilted time times
tiny to told toml tool tools top total trace track train trained training transform transforms tree trial triangle trimmed true
truncated truth try tsv tube tubes tuned turned turning twice two txt type types unchanged undone uniform unit units unknown
unnamed unpacked unpaired unsigned up update updated upper upright us usable used useful user valid value values variant vector
vendor venogram version vertical vertices vesselness view viewer views visible void volume volumes voxel voxels vtk vtp warp
warped washed weak weighted weights white whole wide wider widget width windowed work working written wrong x xls xlsx xy xyz y
yellow yes z zero zeros zip zlib zoom zoomed zraw
"""

OF_SERIES = frozenset(_SERIES.split())
KNOWN = OF_SERIES | frozenset((_ANATOMY + _FILES).split())
