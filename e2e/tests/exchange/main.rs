//! What one build of the programs has stored, another goes on with: workflows over a sidecar that is swapped, jobs over a
//! scheduler that is. The other build is named by `DAPR_E2E_OTHER_DAPRD_PATH` and `DAPR_E2E_OTHER_SCHEDULER_PATH`, and may be an
//! older one of ours as well as upstream's; `make exchange` runs this.

mod jobs;
mod workflows;
