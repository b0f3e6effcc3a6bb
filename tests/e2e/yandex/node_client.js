// Uses the SDK of Yandex Cloud for Node as a program of a fleet would: registries, devices, passwords, certificates.
// Arguments: the folder with the SDK, and a JSON object with endpoint, token, folder, certificate and password.
// Prints a JSON object with what it saw.
'use strict';

const path = require('node:path');

const [, , modules, text] = process.argv;
const given = JSON.parse(text);
const sdk = path.join(modules, 'node_modules', '@yandex-cloud', 'nodejs-sdk', 'dist');
const { Session } = require(sdk);
const generated = (name) => require(path.join(sdk, 'generated', 'yandex', 'cloud', 'iot', ...name.split('/')));
const operationApi = generated('../operation/operation_service');

const registryApi = generated('devices/v1/registry_service');
const deviceApi = generated('devices/v1/device_service');
const deviceDataApi = generated('devices/v1/device_data_service');
const brokerApi = generated('broker/v1/broker_service');
const { Registry } = generated('devices/v1/registry');
const { Device } = generated('devices/v1/device');
const { Broker } = generated('broker/v1/broker');

const session = new Session({ iamToken: given.token });
const operations = session.client(operationApi.OperationServiceClient, given.endpoint);

// The SDK's own waitForOperation takes no endpoint.
async function finished({ id }) {
    const operation = await operations.get(operationApi.GetOperationRequest.fromPartial({ operationId: id }));
    if (!operation.done || operation.error) {
        throw new Error(`operation ${id} failed`);
    }
    return operation;
}

// The SDK's errors have the code in their text, and the request id of a header.
async function refusalOf(promise) {
    try {
        await promise;
    } catch (error) {
        return `${error.message.split(/[ :]+/)[1]} ${Boolean(error.requestId)}`;
    }
    return 'none';
}

async function main() {
    const registries = session.client(registryApi.RegistryServiceClient, given.endpoint);
    const devices = session.client(deviceApi.DeviceServiceClient, given.endpoint);
    const data = session.client(deviceDataApi.DeviceDataServiceClient, given.endpoint);
    const brokers = session.client(brokerApi.BrokerServiceClient, given.endpoint);
    const seen = {};

    const made = await finished(await registries.create(registryApi.CreateRegistryRequest.fromPartial({
        folderId: given.folder, name: given.name, labels: { key: 'value' },
    })));
    const registry = Registry.decode(made.response.value);
    seen.registry = { id: registry.id, name: registry.name, labels: registry.labels };

    const created = await finished(await devices.create(deviceApi.CreateDeviceRequest.fromPartial({
        registryId: registry.id,
        name: 'boiler',
        certificates: [{ certificateData: given.certificate }],
        password: given.password,
        topicAliases: { 'my/': '$devices/{id}/' },
    })));
    const device = Device.decode(created.response.value);
    seen.device = { id: device.id, aliases: device.topicAliases };

    await finished(await devices.update(deviceApi.UpdateDeviceRequest.fromPartial({
        deviceId: device.id, updateMask: { paths: ['description'] }, description: 'by Node', name: 'unnamed',
    })));
    const read = await devices.get(deviceApi.GetDeviceRequest.fromPartial({ deviceId: device.id }));
    seen.read = { name: read.name, description: read.description };
    const listed = await devices.list(deviceApi.ListDevicesRequest.fromPartial({ registryId: registry.id }));
    seen.listed = listed.devices.map((each) => each.id);

    const deviceId = { deviceId: device.id };
    const certificates = await devices.listCertificates(deviceApi.ListDeviceCertificatesRequest.fromPartial(deviceId));
    seen.certificates = certificates.certificates.map((each) => each.certificateData);
    await finished(await devices.addPassword(deviceApi.AddDevicePasswordRequest.fromPartial({
        ...deviceId, password: given.second,
    })));
    const passwords = await devices.listPasswords(deviceApi.ListDevicePasswordsRequest.fromPartial(deviceId));
    await finished(await devices.deletePassword(deviceApi.DeleteDevicePasswordRequest.fromPartial({
        ...deviceId, passwordId: passwords.passwords[0].id,
    })));
    seen.passwords = passwords.passwords.length;

    await data.publish(deviceDataApi.PublishDeviceDataRequest.fromPartial({
        ...deviceId, topic: `$devices/${device.id}/events`, data: Buffer.from('by Node'),
    }));

    const opened = await finished(await brokers.create(brokerApi.CreateBrokerRequest.fromPartial({
        folderId: given.folder,
    })));
    const broker = Broker.decode(opened.response.value);
    await finished(await brokers.delete(brokerApi.DeleteBrokerRequest.fromPartial({ brokerId: broker.id })));

    seen.refusals = [
        await refusalOf(devices.get(deviceApi.GetDeviceRequest.fromPartial({ deviceId: 'are00000000000000000' }))),
        await refusalOf(devices.create(deviceApi.CreateDeviceRequest.fromPartial({ registryId: registry.id, name: '!' }))),
        await refusalOf(registries.delete(registryApi.DeleteRegistryRequest.fromPartial({ registryId: registry.id }))),
    ];
    process.stdout.write(JSON.stringify(seen));
    process.exit(0);
}

main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
});
