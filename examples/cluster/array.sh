#!/bin/bash
# One scene over N machines that share a folder, without any scheduler of Dask's.
#
#   SLURM   sbatch --array=1-16 array.sh scene.tif terrain map.gpkg /shared/job
#   PBS     qsub -v PARTS=16 -J 1-16 -- array.sh scene.tif terrain map.gpkg /shared/job
#   LSF     bsub -J "map[1-16]" array.sh scene.tif terrain map.gpkg /shared/job
#
# then, once, when all parts are done (sbatch --dependency=afterok:JOB and the like):
#
#   array.sh --join scene.tif terrain map.gpkg /shared/job
#
# A part that was killed is simply submitted again: it goes on where it stopped.
#SBATCH --job-name=geoseg --cpus-per-task=4 --mem=8G --time=04:00:00 --signal=B:USR1@60
set -euo pipefail

how=()
if [ "${1:-}" = --join ]; then
  shift
  how=(--join)
else
  index="${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-${LSB_JOBINDEX:?not in a job array}}}"
  count="${SLURM_ARRAY_TASK_COUNT:-${LSB_JOBINDEX_END:-${PARTS:?say how many with PARTS}}}"
  how=(--part "$index/$count")
fi
scene="$1" model="$2" map="$3" store="$4"
# exec: the scheduler's signals reach geoseg, which ends within seconds
exec geoseg map "$scene" -m "$model" -o "$map" --store "$store" "${how[@]}"
