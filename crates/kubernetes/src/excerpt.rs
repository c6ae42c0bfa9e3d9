//! Types that read only what is needed of an object.

/// Implements [`kube::Resource`] for a type that reads only what is needed of an object; which kind it is stands in the
/// [`kube::api::ApiResource`] the API is made with. The type has a field `metadata`.
#[macro_export]
macro_rules! excerpt {
    ($name:ty) => {
        impl kube::Resource for $name {
            type DynamicType = kube::api::ApiResource;
            type Scope = kube::core::DynamicResourceScope;

            fn group(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.group.as_str().into()
            }

            fn version(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.version.as_str().into()
            }

            fn kind(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.kind.as_str().into()
            }

            fn plural(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.plural.as_str().into()
            }

            fn meta(&self) -> &kube::api::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut kube::api::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
