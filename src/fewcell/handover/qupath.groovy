/**
 * Finds the cells of the open image with fewcell and adds them as detections, each with its score and measurements.
 *
 * For QuPath 0.4 and later. Open it in the script editor (Automate > Script editor) and choose Run; "Run for project"
 * does it for many images. Cells are added to what is there: delete detections of an earlier run first.
 * fewcell reads the image from its file, so the image must be open as it is in the file: not cropped, not turned.
 */

// Where fewcell is. `fewcell qupath` writes this file with the right path.
def fewcell = 'fewcell'
// Flags of `fewcell segment`, for example ['--diameter', '12um', '--min-score', '0.6', '--channels', '0'].
def options = []

def server = getCurrentServer()
def image = GeneralTools.toPath(server.getURIs().first())
if (image == null)
    throw new IllegalStateException('fewcell needs an image that is a file on this computer.')

def calibration = server.getPixelCalibration()
if (calibration.hasPixelSizeMicrons() && !options.contains('--pixel-size'))
    options += ['--pixel-size', calibration.getAveragedPixelSizeMicrons().toString()]

def folder = java.nio.file.Files.createTempDirectory('fewcell')
try {
    def labels = folder.resolve('found_label.zarr')
    def command = [fewcell, 'segment', image.toString(), '-o', labels.toString(), '--export', 'geojson'] + options
    def process = new ProcessBuilder(command).redirectErrorStream(true).start()
    process.getInputStream().eachLine { line -> println line }
    if (process.waitFor() != 0)
        throw new IllegalStateException('fewcell failed; what it said is above.')
    importObjectsFromFile(folder.resolve('found_cells.geojson').toString())
} finally {
    folder.toFile().deleteDir()
}
