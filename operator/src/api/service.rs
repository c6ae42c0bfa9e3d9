//! One method per RPC: authorise, ask, wrap.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use proto::operator::v1::operator_server::Operator as Service;
use proto::operator::v1::{
    ComponentUpdateEvent, ComponentUpdateRequest, ConfigurationUpdateEvent,
    ConfigurationUpdateRequest, GetConfigurationRequest, GetConfigurationResponse,
    GetResiliencyRequest, GetResiliencyResponse, HttpEndpointUpdateEvent,
    HttpEndpointUpdateRequest, ListComponentResponse, ListComponentsRequest,
    ListHttpEndpointsRequest, ListHttpEndpointsResponse, ListMcpServersRequest,
    ListMcpServersResponse, ListResiliencyRequest, ListResiliencyResponse,
    ListSubscriptionsRequest, ListSubscriptionsResponse, ListWorkflowAccessPolicyRequest,
    ListWorkflowAccessPolicyResponse, McpServerUpdateEvent, McpServerUpdateRequest,
    ResiliencyUpdateEvent, ResiliencyUpdateRequest, ResourceEventType, SubscriptionUpdateEvent,
    SubscriptionUpdateRequest, WorkflowAccessPolicyUpdateEvent, WorkflowAccessPolicyUpdateRequest,
};
use tonic::{Request, Response, Status};

use super::Operator;
use super::access::authorize;
use super::changes::Update;
use crate::resources::{EventType, Kind};

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Operator {
    /// The stream of a kind, each update made into its message by `wrap`.
    fn updates<R, T: 'static>(
        &self,
        kind: Kind,
        request: &Request<R>,
        namespace: &str,
        wrap: fn(Update) -> T,
    ) -> Result<Response<Events<T>>, Status> {
        let caller = authorize(request, namespace)?;
        let changes = self.changes(kind, &caller)?;
        Ok(Response::new(
            changes.map(move |update| update.map(wrap)).boxed(),
        ))
    }
}

impl Update {
    fn event_type(&self) -> i32 {
        let kind = match self.kind {
            EventType::Created => ResourceEventType::Created,
            EventType::Updated => ResourceEventType::Updated,
            EventType::Deleted => ResourceEventType::Deleted,
        };
        kind.into()
    }
}

#[tonic::async_trait]
impl Service for Operator {
    type ComponentUpdateStream = Events<ComponentUpdateEvent>;
    type SubscriptionUpdateStream = Events<SubscriptionUpdateEvent>;
    type HTTPEndpointUpdateStream = Events<HttpEndpointUpdateEvent>;
    type MCPServerUpdateStream = Events<McpServerUpdateEvent>;
    type ConfigurationUpdateStream = Events<ConfigurationUpdateEvent>;
    type ResiliencyUpdateStream = Events<ResiliencyUpdateEvent>;
    type WorkflowAccessPolicyUpdateStream = Events<WorkflowAccessPolicyUpdateEvent>;

    async fn component_update(
        &self,
        request: Request<ComponentUpdateRequest>,
    ) -> Result<Response<Self::ComponentUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.updates(Kind::Component, &request, namespace, |update| {
            let r#type = update.event_type();
            let component = update.json;
            ComponentUpdateEvent { component, r#type }
        })
    }

    async fn list_components(
        &self,
        request: Request<ListComponentsRequest>,
    ) -> Result<Response<ListComponentResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let components = self.list(Kind::Component, &caller).await?;
        Ok(Response::new(ListComponentResponse { components }))
    }

    async fn get_configuration(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Result<Response<GetConfigurationResponse>, Status> {
        let GetConfigurationRequest { name, namespace } = request.get_ref();
        let caller = authorize(&request, namespace)?;
        let configuration = self.find(Kind::Configuration, &caller, name).await?;
        Ok(Response::new(GetConfigurationResponse { configuration }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<()>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        // Compat: Q-operator-list-subscriptions. The old call names no namespace, so nobody is allowed to make it.
        let request = request.map(|()| ListSubscriptionsRequest::default());
        self.list_subscriptions_v2(request).await
    }

    async fn get_resiliency(
        &self,
        request: Request<GetResiliencyRequest>,
    ) -> Result<Response<GetResiliencyResponse>, Status> {
        let GetResiliencyRequest { name, namespace } = request.get_ref();
        let caller = authorize(&request, namespace)?;
        let resiliency = self.find(Kind::Resiliency, &caller, name).await?;
        Ok(Response::new(GetResiliencyResponse { resiliency }))
    }

    async fn list_resiliency(
        &self,
        request: Request<ListResiliencyRequest>,
    ) -> Result<Response<ListResiliencyResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let resiliencies = self.list(Kind::Resiliency, &caller).await?;
        Ok(Response::new(ListResiliencyResponse { resiliencies }))
    }

    async fn list_subscriptions_v2(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let subscriptions = self.list(Kind::Subscription, &caller).await?;
        Ok(Response::new(ListSubscriptionsResponse { subscriptions }))
    }

    async fn subscription_update(
        &self,
        request: Request<SubscriptionUpdateRequest>,
    ) -> Result<Response<Self::SubscriptionUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.updates(Kind::Subscription, &request, namespace, |update| {
            let r#type = update.event_type();
            let subscription = update.json;
            SubscriptionUpdateEvent {
                subscription,
                r#type,
            }
        })
    }

    async fn list_http_endpoints(
        &self,
        request: Request<ListHttpEndpointsRequest>,
    ) -> Result<Response<ListHttpEndpointsResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let http_endpoints = self.list(Kind::HttpEndpoint, &caller).await?;
        Ok(Response::new(ListHttpEndpointsResponse { http_endpoints }))
    }

    async fn http_endpoint_update(
        &self,
        request: Request<HttpEndpointUpdateRequest>,
    ) -> Result<Response<Self::HTTPEndpointUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.updates(Kind::HttpEndpoint, &request, namespace, |update| {
            let r#type = update.event_type();
            let http_endpoints = update.json;
            HttpEndpointUpdateEvent {
                http_endpoints,
                r#type,
            }
        })
    }

    async fn list_mcp_servers(
        &self,
        request: Request<ListMcpServersRequest>,
    ) -> Result<Response<ListMcpServersResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let mcp_servers = self.list(Kind::McpServer, &caller).await?;
        Ok(Response::new(ListMcpServersResponse { mcp_servers }))
    }

    async fn mcp_server_update(
        &self,
        request: Request<McpServerUpdateRequest>,
    ) -> Result<Response<Self::MCPServerUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.updates(Kind::McpServer, &request, namespace, |update| {
            let r#type = update.event_type();
            let mcp_server = update.json;
            McpServerUpdateEvent { mcp_server, r#type }
        })
    }

    async fn configuration_update(
        &self,
        request: Request<ConfigurationUpdateRequest>,
    ) -> Result<Response<Self::ConfigurationUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let changes = self.changes(Kind::Configuration, &caller)?;
        let events = changes.map(|update| {
            let update = update?;
            let r#type = update.event_type();
            let configuration = update.json;
            Ok(ConfigurationUpdateEvent {
                configuration,
                r#type,
            })
        });
        Ok(Response::new(events.boxed()))
    }

    async fn resiliency_update(
        &self,
        request: Request<ResiliencyUpdateRequest>,
    ) -> Result<Response<Self::ResiliencyUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.updates(Kind::Resiliency, &request, namespace, |update| {
            let r#type = update.event_type();
            let resiliency = update.json;
            ResiliencyUpdateEvent { resiliency, r#type }
        })
    }

    async fn list_workflow_access_policy(
        &self,
        request: Request<ListWorkflowAccessPolicyRequest>,
    ) -> Result<Response<ListWorkflowAccessPolicyResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let caller = authorize(&request, namespace)?;
        let policies = self.list(Kind::WorkflowAccessPolicy, &caller).await?;
        Ok(Response::new(ListWorkflowAccessPolicyResponse { policies }))
    }

    async fn workflow_access_policy_update(
        &self,
        request: Request<WorkflowAccessPolicyUpdateRequest>,
    ) -> Result<Response<Self::WorkflowAccessPolicyUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.updates(Kind::WorkflowAccessPolicy, &request, namespace, |update| {
            let r#type = update.event_type();
            let policy = update.json;
            WorkflowAccessPolicyUpdateEvent { policy, r#type }
        })
    }
}
