//! The loaded output bindings.

use blocks::{
    Kind, Registry,
    registry::{self, Called},
};
use component::{
    OutputBinding,
    bindings::{InvokeRequest, InvokeResponse},
};
use resiliency::ComponentKind;

use crate::Error;

static OUTPUT: Kind<dyn OutputBinding> = Kind {
    prefix: crate::engine::PREFIX,
    calls: Some(Called {
        metrics: Some("output_binding"),
        policies: ComponentKind::Binding,
    }),
    family: |catalog| &catalog.output_bindings,
};

pub struct Outputs(pub Registry<dyn OutputBinding>);

impl Outputs {
    pub fn new(options: registry::Options) -> Self {
        Self(Registry::new(&OUTPUT, options))
    }

    pub async fn invoke(
        &self,
        name: &str,
        request: &InvokeRequest,
    ) -> Result<InvokeResponse, Error> {
        let operation = &request.operation;
        if operation.is_empty() {
            return Err(Error::NoOperation);
        }
        let loaded = self.0.find(name).map_err(|_| Error::NotFound {
            name: name.to_owned(),
        })?;
        let known = loaded.operations();
        if !known.contains(operation) {
            return Err(Error::UnknownOperation {
                name: name.to_owned(),
                operation: operation.clone(),
                known: known.join(" "),
            });
        }
        let invoke = || loaded.invoke(request);
        Ok(self.0.call(&loaded, operation, invoke).await?)
    }
}
